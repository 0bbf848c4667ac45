"""Scores from activations, against dense float64 oracles, and all the way to channel masks."""

import functools
import json
import pathlib

import flax.linen as nn
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxticket as jt
from jaxticket import scopes, scores, units
from jaxticket.errors import InputError
from tests.conformance.drivers import COMPILER

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "criteria.json").read_text())
OF_CHANNELS = [scores.activation_norm, scores.mean_activation, scores.apoz, scores.hrank]
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def integers(seed, shape):
    """Small whole numbers, whose sums are exact in any order."""
    return jnp.asarray(np.random.default_rng(seed).integers(-3, 4, shape), jnp.float32)


PARAMS = {
    "conv": {"kernel": integers(0, (2, 2, 2, 5)), "bias": integers(1, (1, 1, 1, 5))},
    "out": {"kernel": integers(2, (5, 3)), "bias": jnp.zeros((1, 3))},
}
BATCHES = [integers(3, (8, 4, 5, 2)), integers(4, (8, 4, 5, 2))]


def apply(params, x):
    x = jax.lax.conv_general_dilated(x, params["conv"]["kernel"], (1, 1), "VALID", dimension_numbers=DIMENSIONS)
    x = jax.nn.relu(x + params["conv"]["bias"])
    return x.mean((1, 2)) @ params["out"]["kernel"] + params["out"]["bias"]


def loss(params, x):
    return jnp.mean(jnp.square(apply(params, x)))


def layers(params):
    """In float64: inputs and outputs of both layers, biases included, over all batches."""
    x = np.concatenate(BATCHES).astype(np.float64)
    conv, out = (jax.tree.map(lambda p: np.asarray(p, np.float64), params[name]) for name in ("conv", "out"))
    patches = np.stack([x[:, h : h + 2, w : w + 2] for h in range(3) for w in range(4)], 1).reshape(16, 12, 8)
    maps = patches @ conv["kernel"].reshape(8, 5) + conv["bias"].reshape(5)
    pooled = np.maximum(maps, 0).mean(1)
    return patches, maps, pooled, pooled @ out["kernel"] + out["bias"]


def close(a, b, rtol=1e-5):
    np.testing.assert_allclose(np.asarray(a), b, rtol=rtol, atol=1e-6)


@functools.cache
def scored(factory):
    return factory(apply, BATCHES)(PARAMS)


def test_wanda():
    patches, _, pooled, _ = layers(PARAMS)
    found = scored(scores.wanda)
    norms = np.sqrt(np.square(patches).sum((0, 1))).reshape(2, 2, 2, 1)
    close(found["conv"]["kernel"], np.abs(PARAMS["conv"]["kernel"]) * norms)
    close(found["out"]["kernel"], np.abs(PARAMS["out"]["kernel"]) * np.sqrt(np.square(pooled).sum(0))[:, None])
    assert found["out"]["bias"] is None


@pytest.mark.parametrize(
    ("factory", "of"),
    [
        (scores.activation_norm, lambda a: np.sqrt(np.square(a).sum(0))),
        (scores.mean_activation, lambda a: np.abs(a).mean(0)),
        (scores.apoz, lambda a: (a > 0).mean(0)),
    ],
)
def test_channels(factory, of):
    _, maps, _, logits = layers(PARAMS)
    found = scored(factory)
    assert found["conv"]["kernel"].shape == (1, 1, 1, 5)
    close(found["conv"]["kernel"].ravel(), of(np.maximum(maps, 0).reshape(-1, 5)))
    close(found["out"]["kernel"], of(np.maximum(logits, 0))[None])
    assert found["conv"]["bias"] is None


def test_the_nonlinearity_is_an_argument():
    _, maps, _, _ = layers(PARAMS)
    found = scores.mean_activation(apply, BATCHES, nonlinearity=lambda a: a)(PARAMS)
    close(found["conv"]["kernel"].ravel(), np.abs(maps).mean((0, 1)))


def test_hrank():
    _, maps, _, _ = layers(PARAMS)
    ranks = np.linalg.matrix_rank(np.moveaxis(np.maximum(maps, 0).reshape(16, 3, 4, 5), -1, 1))
    found = scored(scores.hrank)
    close(found["conv"]["kernel"].ravel(), ranks.mean(0))
    assert found["out"]["kernel"] is None
    scaled = scores.hrank(apply, BATCHES)(PARAMS | {"conv": jax.tree.map(lambda p: 64 * p, PARAMS["conv"])})
    close(scaled["conv"]["kernel"], found["conv"]["kernel"])


def test_hrank_golden():
    maps = jnp.array(GOLDEN["hrank"]["maps"], jnp.float32)
    identity = jnp.eye(len(maps)).reshape(1, 1, len(maps), len(maps))

    def one_by_one(kernel, x):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=DIMENSIONS)

    found = scores.hrank(one_by_one, [jnp.moveaxis(maps, 0, -1)[None]])(identity)
    np.testing.assert_array_equal(found.ravel(), GOLDEN["hrank"]["ranks"])


def test_apoz_golden_and_range():
    found = scores.apoz(lambda w, x: x @ w, [jnp.array(GOLDEN["apoz"]["inputs"])])(jnp.array(GOLDEN["apoz"]["weights"]))
    np.testing.assert_array_equal(found, GOLDEN["apoz"]["active"])
    for found in jax.tree.leaves(scored(scores.apoz)):
        assert 0 <= found.min() <= found.max() <= 1
    silent = scores.apoz(lambda p, x: x @ p + jnp.full((1, 3), -100.0), [jnp.ones((4, 2))])(jnp.ones((2, 3)))
    np.testing.assert_array_equal(silent, np.zeros((1, 3)))  # APoZ 1


def test_apoz_of_a_layer_with_one_output_sees_its_bias():
    """The bias of a single output has the size of a scalar, and is a bias all the same."""
    inputs = [jnp.ones((4, 2))]
    silent = scores.apoz(lambda p, x: x @ p["w"] + p["b"], inputs)
    for shape in ((), (1,), (1, 1)):
        with jax.numpy_rank_promotion("allow"):
            found = silent({"w": jnp.ones((2, 1)), "b": jnp.full(shape, -100.0)})["w"]
        np.testing.assert_array_equal(found, [[0.0]])


def test_taylor_sums_effects_over_positions_before_it_averages_over_examples():
    found = scores.activation_taylor(loss, BATCHES)(PARAMS)
    _, maps, _, logits = layers(PARAMS)
    outer = 2 * logits / (3 * 8)  # of the mean over 8 examples and 3 outputs
    inner = (outer @ np.asarray(PARAMS["out"]["kernel"]).T)[:, None] / 12 * (maps > 0)
    close(found["conv"]["kernel"].ravel(), np.abs((maps * inner).mean(1)).sum(0) / 2)
    close(found["out"]["kernel"].ravel(), np.abs(logits * outer).sum(0) / 2)


def test_taylor_gate_identity():
    """∂L/∂g = Σ w · ∂L/∂w over the filter and its bias: for one example, that over the number of positions."""
    x = BATCHES[0][:1]
    found = scores.activation_taylor(loss, [x])(PARAMS)
    grads = jax.jit(jax.grad(loss), compiler_options=COMPILER)(PARAMS, x)
    for name, positions in (("conv", 12), ("out", 1)):
        kernel, grad = PARAMS[name]["kernel"], grads[name]["kernel"]
        gate = np.sum(np.asarray(kernel * grad).reshape(-1, kernel.shape[-1]), 0)
        gate += np.asarray(PARAMS[name]["bias"] * grads[name]["bias"]).ravel()
        close(found[name]["kernel"].ravel(), np.abs(gate) / positions)


def test_taylor_golden():
    """Activations 1 and 2 at two positions with gradients 3 and −1: |mean| is 0.5."""
    x = jnp.array([0.5, 1.5]).reshape(1, 2, 1)

    def of(params, x):
        return jnp.sum(jax.nn.relu(x @ params["w"] + params["b"]) * jnp.array([3.0, -1.0]).reshape(1, 2, 1))

    found = scores.activation_taylor(of, [x])({"w": jnp.ones((1, 1)), "b": jnp.full((1, 1, 1), 0.5)})
    np.testing.assert_array_equal(found["w"], [[0.5]])


@pytest.mark.parametrize("features", [1, 3])
def test_taylor_is_the_effect_of_the_gate_after_batch_norm(features):
    """Molchanov et al. (2019) multiply what the norm gives by a gate; with ReLU that is the gate on the activation."""
    x = integers(8, (1, 4))
    model = nn.Sequential([nn.Dense(features), nn.BatchNorm(use_running_average=True)])
    variables = jax.tree.map(lambda p: p + 0.25, model.init(jax.random.key(0), x))

    def gated(gate, params, x):
        y = jax.nn.relu(model.apply(variables | {"params": params}, x) * gate)
        return jnp.mean(jnp.square(y - 1))

    found = scores.activation_taylor(lambda p, x: gated(1, p, x), [x])(variables["params"])
    expected = jax.grad(gated)(jnp.ones((1, features)), variables["params"], x)
    close(found["layers_0"]["kernel"], np.abs(expected))


def test_taylor_of_layers_in_a_scan_is_that_of_each():
    x = integers(5, (6, 4))
    stacked = integers(6, (3, 4, 4)) / 4

    def of_list(ws, x):
        for w in ws:
            x = jnp.tanh(x @ w)
        return jnp.mean(x)

    def of_stack(w, x):
        return jnp.mean(jax.lax.scan(lambda x, w: (jax.checkpoint(lambda x, w: jnp.tanh(x @ w))(x, w), None), x, w)[0])

    one = scores.activation_taylor(of_stack, [x])(stacked)
    assert one.shape == (3, 1, 4)
    close(one, np.stack(scores.activation_taylor(of_list, [x])(list(stacked))))


@hypothesis.given(st.permutations(range(5)))
@hypothesis.settings(max_examples=5)
def test_permuted_channels_have_permuted_scores(order):
    order = np.array(order)
    conv = {"kernel": PARAMS["conv"]["kernel"][..., order], "bias": PARAMS["conv"]["bias"][..., order]}
    params = {"conv": conv, "out": PARAMS["out"] | {"kernel": PARAMS["out"]["kernel"][order]}}
    for factory in (*OF_CHANNELS, scores.wanda):
        found = _compiled(factory)(params)["conv"]["kernel"]
        np.testing.assert_array_equal(found, scored(factory)["conv"]["kernel"][..., order])


@functools.cache
def _compiled(factory):
    return factory(apply, BATCHES)


def test_scores_stand_at_the_masked_parameters_and_see_what_the_mask_leaves():
    mask = {
        "conv": {"kernel": jnp.arange(5)[None, None, None] != 2, "bias": None},
        "out": {"kernel": None, "bias": None},
    }
    masked = jt.apply_mask(PARAMS, mask)
    for factory in (scores.wanda, scores.mean_activation):
        found, expected = _compiled(factory)(PARAMS, mask=mask), _compiled(factory)(masked)
        assert found["out"]["kernel"] is None
        if factory is not scores.wanda:  # which takes |w| of the dead as they were given
            np.testing.assert_array_equal(found["conv"]["kernel"], expected["conv"]["kernel"])
    np.testing.assert_array_equal(
        _compiled(scores.wanda)(PARAMS, mask=mask)["conv"]["kernel"], scored(scores.wanda)["conv"]["kernel"]
    )


def test_new_parameters_and_masks_compile_nothing_new():
    traces = []

    def counted(params, x):
        traces.append(None)
        return x @ params["w"]

    score = scores.wanda(counted, [integers(5, (6, 4))] * 3)
    masks = [{"w": jnp.arange(8).reshape(4, 2) % n > 0} for n in (2, 3)]
    first = score({"w": integers(6, (4, 2))}, mask=masks[0])
    before = len(traces)
    second = score({"w": integers(7, (4, 2))}, mask=masks[1])
    assert len(traces) == before
    assert not np.array_equal(first["w"], second["w"])


def test_batches_on_a_mesh_give_the_mask_of_one_device():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = [jax.device_put(x, NamedSharding(mesh, P("data"))) for x in BATCHES]
    params = jax.device_put(PARAMS, NamedSharding(mesh, P()))
    for factory in (scores.wanda, scores.mean_activation):
        found = jax.block_until_ready(factory(apply, sharded)(params))
        np.testing.assert_array_equal(found["conv"]["kernel"], scored(factory)["conv"]["kernel"])
        close(found["out"]["kernel"], scored(factory)["out"]["kernel"])  # its inputs are means, rounded
        a, b = (jax.tree.leaves(jax.tree.map(_order, jax.device_get(tree))) for tree in (found, scored(factory)))
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def _order(scores):
    """Where each score ranks, which is all that a selection sees."""
    return np.argsort(-np.asarray(scores).ravel(), kind="stable")


def test_channel_scores_make_the_first_mask_of_a_plan_and_the_next_of_a_loop():
    score, unit = _compiled(scores.mean_activation), units.axis(-1)
    tx = jt.sparsify(optax.sgd(0.1), jt.static(0.6, unit=unit, score=score))
    params, state = jt.init(tx, PARAMS)
    mask = jt.mask_of(state)
    for name, kept in (("conv", 3), ("out", 2)):  # round(3) of 5 and round(1.8) of 3
        expected = np.isin(np.arange(len(_channel_order(name))), _channel_order(name)[:kept])
        np.testing.assert_array_equal(mask[name]["kernel"].ravel(), expected)
        assert mask[name]["kernel"].shape == scored(scores.mean_activation)[name]["kernel"].shape

    @functools.partial(jax.jit, compiler_options=COMPILER)
    def step(params, state):
        updates, _ = tx.update(jax.grad(loss)(params, BATCHES[0]), state, params)
        return optax.apply_updates(params, updates)

    stepped = np.asarray(step(params, state)["conv"]["kernel"])
    assert not stepped[..., _channel_order("conv")[3:]].any()
    assert stepped[..., _channel_order("conv")[:3]].any()

    full = {name: {"kernel": jnp.ones(PARAMS[name]["kernel"].shape, bool), "bias": None} for name in PARAMS}
    prune = jt.loops.prune_by(score, unit=unit, scope=scopes.leaf())
    level = prune(PARAMS, full, 0.6, key=jax.random.key(0))
    for name in ("conv", "out"):
        wide = np.broadcast_to(mask[name]["kernel"], PARAMS[name]["kernel"].shape)
        np.testing.assert_array_equal(level[name]["kernel"], wide)
    again = prune(PARAMS, level, 0.4, key=jax.random.key(0))
    assert not np.any(np.asarray(again["conv"]["kernel"]) & ~np.asarray(level["conv"]["kernel"]))
    assert int(again["conv"]["kernel"][0, 0, 0].sum()) == 2


def _channel_order(name):
    return _order(scored(scores.mean_activation)[name]["kernel"])


@pytest.mark.parametrize("factory", [*OF_CHANNELS, scores.wanda, scores.activation_taylor])
def test_errors(factory):
    with pytest.raises(InputError, match="generator"):
        factory(apply, (x for x in BATCHES))
    with pytest.raises(InputError, match="batches is empty"):
        factory(apply, [])(PARAMS)


def test_a_leaf_that_is_never_multiplied_is_named_where_a_mask_needs_it():
    params = PARAMS | {"unused": {"kernel": jnp.ones((2, 2))}}
    tx = jt.sparsify(optax.sgd(0.1), jt.static(0.5, score=scores.wanda(apply, BATCHES[:1])))
    with pytest.raises(InputError, match="unused/kernel"):
        tx.init(params)
