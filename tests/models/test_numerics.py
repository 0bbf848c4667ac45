"""Models against computations that share no code with them."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxticket import _tree, models
from jaxticket.errors import InputError
from jaxticket.models import _layers, _transformer
from tests.conformance.drivers import COMPILER
from tests.models.zoo import CASES, leaf_of


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def evaluated(model):
    """(params, state, x) -> logits and state, compiled."""
    return jax.jit(functools.partial(model.apply, train=False, key=None), compiler_options=COMPILER)


def random_like(rng, shapes):
    """Positive numbers near one: they may stand for variances too."""
    return jax.tree.map(lambda leaf: np.exp(0.3 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)


def convolve(kernel, x, strides):
    """Cross-correlation with half a kernel of zeros on each side, pixel by pixel."""
    size = kernel.shape[0]
    x = np.pad(x, [(0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)])
    rows, columns = ((length - size) // strides + 1 for length in x.shape[1:3])
    out = np.empty((len(x), rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * strides : i * strides + size, j * strides : j * strides + size]
            out[:, i, j] = np.einsum("bhwc,hwco->bo", window, kernel)
    return out


def normalise(params, statistics, x):
    return (x - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5) * params["scale"] + params["bias"]


def conv_norm(params, statistics, x, strides=1):
    return normalise(params["norm"], statistics["norm"], convolve(params["conv"]["kernel"], x, strides))


def relu(x):
    return np.maximum(x, 0)


def test_resnet_20_is_the_network_of_the_paper(rng):
    case = CASES["resnet_20"]
    params, state = random_like(rng, jax.eval_shape(case.model.init, jax.random.key(0)))
    x = case.inputs()[:2]
    h = relu(conv_norm(params["stem"], state["stem"], x))
    for stage, strides in (("stage1", 1), ("stage2", 2), ("stage3", 2)):
        block, statistics = params[stage]["block1"], state[stage]["block1"]
        inner = relu(conv_norm(block["layer1"], statistics["layer1"], h, strides))
        outer = conv_norm(block["layer2"], statistics["layer2"], inner)
        h = relu(outer + (h if strides == 1 else conv_norm(block["shortcut"], statistics["shortcut"], h, strides)))
    expected = h.mean((1, 2)) @ params["output"]["kernel"] + params["output"]["bias"]
    logits, after = evaluated(case.model)(params, state, x)
    np.testing.assert_allclose(logits, expected, rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_wide_resnet_activates_before_it_convolves(rng):
    case = CASES["wide_resnet"]
    params, state = random_like(rng, jax.eval_shape(case.model.init, jax.random.key(0)))
    x = case.inputs()[:2]
    h = convolve(params["stem"]["conv"]["kernel"], x, 1)
    for stage, strides in (("stage1", 1), ("stage2", 2), ("stage3", 2)):
        block, statistics = params[stage]["block1"], state[stage]["block1"]
        y = relu(normalise(block["layer1"]["norm"], statistics["layer1"]["norm"], h))
        shortcut = h if strides == 1 else convolve(block["shortcut"]["conv"]["kernel"], y, strides)
        y = convolve(block["layer1"]["conv"]["kernel"], y, strides)
        y = relu(normalise(block["layer2"]["norm"], statistics["layer2"]["norm"], y))
        h = convolve(block["layer2"]["conv"]["kernel"], y, 1) + shortcut
    h = relu(normalise(params["norm"], state["norm"], h)).mean((1, 2))
    logits, _ = evaluated(case.model)(params, state, x)
    np.testing.assert_allclose(logits, h @ params["output"]["kernel"] + params["output"]["bias"], rtol=1e-4)


def test_batch_norm_normalises_by_the_batch_and_remembers_a_tenth_of_it(rng):
    x = rng.normal(3, 2, size=(5, 4, 4, 3)).astype(np.float32)
    params, statistics = random_like(
        rng, ({"scale": np.ones(3), "bias": np.ones(3)}, {"mean": np.ones(3), "var": np.ones(3)})
    )
    batch = {"mean": x.mean((0, 1, 2)), "var": x.var((0, 1, 2))}
    kept = jax.tree.map(np.copy, statistics)
    y, after = _layers.batch_norm(params, statistics, x, train=True)
    jax.tree.map(np.testing.assert_array_equal, statistics, kept)
    np.testing.assert_allclose(y, normalise(params, batch, x), rtol=1e-4, atol=1e-5)
    for name, old in statistics.items():
        np.testing.assert_allclose(after[name], 0.9 * old + 0.1 * batch[name], rtol=1e-5)
    y, same = _layers.batch_norm(params, statistics, x, train=False)
    np.testing.assert_allclose(y, normalise(params, statistics, x), rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, same, statistics)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_jax(rng, causal):
    width, heads, depth = 12, 3, 4
    projection = {"kernel": np.ones((width, heads, depth)), "bias": np.ones((heads, depth))}
    out = {"kernel": np.ones((heads, depth, width)), "bias": np.ones(width)}
    params = jax.tree.map(
        lambda p: 0.3 * np.log(p),
        random_like(rng, {"query": projection, "key": projection, "value": projection, "out": out}),
    )
    x = rng.normal(size=(2, 5, width)).astype(np.float32)
    projected = [
        np.einsum("btw,whd->bthd", x, params[n]["kernel"]) + params[n]["bias"] for n in ("query", "key", "value")
    ]
    mixed = jax.nn.dot_product_attention(*projected, is_causal=causal)
    expected = np.einsum("bthd,hdw->btw", mixed, params["out"]["kernel"]) + params["out"]["bias"]
    design = _transformer.Design(scale=depth**-0.5, epsilon=1e-5, causal=causal, activation=jax.nn.gelu)
    attention = jax.jit(lambda params, x: _transformer.attention(params, x, design), compiler_options=COMPILER)
    np.testing.assert_allclose(attention(params, x), expected, rtol=1e-4, atol=1e-5)


def test_gpt_does_not_look_ahead(rng):
    model, x = CASES["gpt"].model, CASES["gpt"].inputs()
    params = jax.tree.map(np.log, random_like(rng, jax.eval_shape(model.init, jax.random.key(0))[0]))
    run = evaluated(model)
    changed = x.copy()
    changed[:, 3] += 1
    (before, _), (after, _) = run(params, None, x), run(params, None, changed)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert np.all(np.max(np.abs(before - after)[:, 3:], axis=-1) > 1e-3)
    # A prefix is read as it is in the whole.
    np.testing.assert_allclose(run(params, None, x[:, :3])[0], before[:, :3], rtol=1e-4, atol=1e-5)


def test_vit_reads_its_token_and_tells_patches_by_position_only(rng):
    model, x = CASES["vit_tiny"].model, CASES["vit_tiny"].inputs()
    params = jax.tree.map(lambda p: 0.3 * np.log(p), random_like(rng, jax.eval_shape(model.init, jax.random.key(0))[0]))
    run = evaluated(model)
    swapped = np.concatenate([x[:, 4:], x[:, :4]], axis=1)  # patches are 4 × 4
    assert np.max(np.abs(run(params, None, x)[0] - run(params, None, swapped)[0])) > 1e-3
    flipped = {**params, "token": jax.tree.map(np.negative, params["token"])}
    assert np.max(np.abs(run(params, None, x)[0] - run(flipped, None, x)[0])) > 1e-3
    blind = {**params, "position": jax.tree.map(np.zeros_like, params["position"])}
    np.testing.assert_allclose(run(blind, None, x)[0], run(blind, None, swapped)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet_20", "vit_tiny"])
def test_bfloat16_weights_compute_in_bfloat16_and_keep_statistics_in_float32(name):
    model, images = CASES[name].model, jnp.asarray(CASES[name].inputs(), jnp.bfloat16)
    params, state = jax.eval_shape(model.init, jax.random.key(0))
    low = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, jnp.bfloat16), params)
    train = functools.partial(model.apply, train=True, key=None)
    jaxpr, (logits, state) = jax.make_jaxpr(train, return_shape=True)(low, state, images)
    products = re.findall(r":(\w+)\[[\d,]*\] = (?:conv_general_dilated|dot_general)", str(jaxpr))
    assert len(products) > 5
    assert set(products) == {"bf16"}
    assert logits.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state))


def test_lstm_is_that_of_flax(rng):
    model, tokens = models.lstm(vocabulary=40, width=6, layers=2), CASES["lstm"].inputs()
    params = jax.tree.map(np.log, random_like(rng, jax.eval_shape(model.init, jax.random.key(0))[0]))
    h = params["token"]["embedding"][tokens]
    for name in ("layer1", "layer2"):
        cell = nnx.eval_shape(lambda: nnx.OptimizedLSTMCell(6, 6, rngs=nnx.Rngs(0)))
        gates = jax.tree.map(lambda p: p.reshape(*p.shape[:-2], 24), params[name])
        nnx.update(cell, {"dense_i": gates["input"], "dense_h": gates["recurrent"]})
        carry, states = (jnp.zeros((3, 6)), jnp.zeros((3, 6))), []
        for t in range(tokens.shape[1]):
            carry, state = cell(carry, h[:, t])
            states.append(state)
        h = np.stack(states, axis=1)
    logits, _ = evaluated(model)(params, None, tokens)
    np.testing.assert_allclose(logits, h @ params["output"]["kernel"] + params["output"]["bias"], rtol=1e-4, atol=1e-5)


def test_lstm_drops_what_enters_and_leaves_a_layer_when_it_trains(rng):
    model, tokens = models.lstm(vocabulary=600, width=8, layers=1), np.arange(600, dtype=np.int32)[:, None]
    params = jax.tree.map(np.log, random_like(rng, jax.eval_shape(model.init, jax.random.key(0))[0]))
    shown = {"kernel": np.eye(8, 600, dtype=np.float32), "bias": np.zeros(600, np.float32)}

    def hidden(embedding, key, train):
        changed = {**params, "token": {"embedding": embedding}, "output": shown}
        logits, _ = model.apply(changed, None, tokens, train=train, key=key)
        return jnp.sum(logits), logits[:, 0, :8]

    run = jax.jit(jax.grad(hidden, has_aux=True), static_argnames="train", compiler_options=COMPILER)
    embedding, keys = params["token"]["embedding"], [jax.random.key(n) for n in range(2)]
    first, second = (run(embedding, key, train=True) for key in keys)
    for one, other in zip(first, second, strict=True):
        # Half of 4,800 entries: 5 standard errors are 0.036.
        assert abs(np.mean(one == 0) - 0.5) < 0.036
        assert np.mean((one == 0) == (other == 0)) < 0.6
    jax.tree.map(np.testing.assert_array_equal, first, run(embedding, keys[0], train=True))
    assert all(np.all(entries != 0) for entries in run(embedding, keys[0], train=False))
    with pytest.raises(InputError, match="key=None"):
        hidden(embedding, None, train=True)


def fresh(layers, paths):
    """Leaves that an initialiser draws, and no others: each random draw takes long to compile."""

    def draw(key):
        params, _ = layers(key)
        return {path: leaf_of(params, path) for path in paths}

    return jax.device_get(jax.jit(draw, compiler_options=COMPILER)(jax.random.key(0)))


def test_convolutions_start_as_in_open_lth():
    layer = lambda key: _layers.pure(_layers.new_conv_norm(3, 16, 64, _layers.keys(key)))
    drawn = fresh(layer, ("conv/kernel", "norm/scale", "norm/bias"))
    kernel, scale = drawn["conv/kernel"], drawn["norm/scale"]
    assert abs(kernel.std() / np.sqrt(2 / (9 * 16)) - 1) < 0.03
    assert kernel.max() > 2.5 * kernel.std()  # not truncated
    assert 0 <= scale.min() < 0.1 < 0.9 < scale.max() < 1
    assert not drawn["norm/bias"].any()


def test_transformers_start_as_gpt_2():
    model = models.gpt(vocabulary=30, context=4, layers=2, heads=2, width=32)
    paths = {"attention/query/kernel": 0.02, "mlp/output/kernel": 0.01, "attention/out/kernel": 0.01}
    drawn = fresh(lambda key: (model.init(key)[0]["blocks"]["block2"], None), paths)
    for path, deviation in paths.items():
        assert abs(drawn[path].std() / deviation - 1) < 0.1, path


def test_lstms_start_uniform():
    drawn = fresh(
        models.lstm(vocabulary=30, width=16, layers=1).init, ("layer1/recurrent/kernel", "layer1/recurrent/bias")
    )
    for leaf in drawn.values():
        assert 0.04 < np.abs(leaf).max() <= 0.05
        assert abs(leaf.mean()) < 0.015


def test_keys_are_those_of_nnx():
    ours, theirs = _layers.keys(jax.random.key(5)), nnx.Rngs(params=jax.random.key(5))
    for _ in range(3):
        assert ours.params() == theirs.params()


def test_blocks_are_run_by_their_numbers():
    assert _tree.in_order({"block10": 0, "block2": 0, "block1": 0}) == ["block1", "block2", "block10"]
