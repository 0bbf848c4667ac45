"""Penalties on chosen weights leave the bits of all others; proximal and projected steps land on exact zeros."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxticket as jt
from jaxticket import filters, masks, scopes, transforms, units
from jaxticket.errors import InputError, NoMatchError, StructureError

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "soft.json").read_text())["energy"]
PARAMS = {
    "conv": {"kernel": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "bias": jnp.ones(4)},
    "norm": {"scale": jnp.array([1.0, -0.5, 0.0, 0.02])},
}
GRADS = jax.tree.map(lambda p: jnp.sin(7 * p + 1), PARAMS)
PRUNED = {"conv": {"kernel": None, "bias": None}, "norm": {"scale": jnp.array([False, True, True, True])}}


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def updates_of(tx, grads=GRADS, params=PARAMS):
    return tx.update(grads, tx.init(params), params)[0]


def bits(x):
    return np.asarray(x).view(np.uint32)


def test_only_chosen_scales_are_penalised():
    """The others' gradients keep their bits, zeros have no slope."""
    found = updates_of(transforms.add_l1(0.1, PRUNED))
    np.testing.assert_array_equal(bits(found["conv"]["kernel"]), bits(GRADS["conv"]["kernel"]))
    np.testing.assert_array_equal(bits(found["norm"]["scale"][0]), bits(GRADS["norm"]["scale"][0]))
    expected = GRADS["norm"]["scale"] + jnp.array([0.0, -0.1, 0.0, 0.1])
    np.testing.assert_array_equal(found["norm"]["scale"], expected)


@pytest.mark.parametrize(
    ("slope", "expected"),
    [
        (jnp.sign, [1.0, -1.0, 0.0, 1.0]),
        (lambda p: p, [1.0, -0.5, 0.0, 0.02]),
        (transforms.smooth_sign(0.04), [1.0, -1.0, 0.0, 0.5]),
    ],
    ids=["l1", "l2", "smooth"],
)
def test_slopes_on_all_scales(slope, expected):
    """Network slimming chooses them by name."""
    found = updates_of(transforms.add_l1(0.25, filters.match("scale$"), slope=slope))
    np.testing.assert_allclose(found["norm"]["scale"] - GRADS["norm"]["scale"], np.multiply(0.25, expected), atol=1e-7)
    np.testing.assert_array_equal(bits(found["conv"]["kernel"]), bits(GRADS["conv"]["kernel"]))


def test_without_a_mask_all_leaves_are_penalised_and_gradients_keep_their_type():
    params = {"w": jnp.array([1.0, -2.0], jnp.bfloat16), "steps": jnp.array(3)}
    found = updates_of(transforms.add_l1(0.5), {"w": jnp.zeros(2, jnp.bfloat16), "steps": jnp.array(0)}, params)
    np.testing.assert_array_equal(found["w"], jnp.array([0.5, -0.5], jnp.bfloat16))
    assert found["w"].dtype == jnp.bfloat16
    assert int(found["steps"]) == 0


def test_the_proximal_step_lands_on_zero_where_the_subgradient_swings_about_it():
    """Of a weight that nothing else moves. At rest it stays, in the masked entries only."""
    params, zeros = PARAMS["norm"], jax.tree.map(jnp.zeros_like, PARAMS["norm"])
    mask = PRUNED["norm"]
    swinging = optax.chain(transforms.add_l1(0.3, mask), optax.sgd(0.1))
    landing = optax.chain(optax.sgd(0.1), transforms.prox_l1(0.03, mask))
    ends = []
    for tx in (swinging, landing):
        state, end = tx.init(params), params
        step = jax.jit(lambda p, s, tx=tx: (lambda u, s: (optax.apply_updates(p, u), s))(*tx.update(zeros, s, p)))
        for _ in range(20):
            end, state = step(end, state)
        ends.append(end["scale"])
    assert 0 < abs(float(ends[0][1])) < 0.031
    np.testing.assert_array_equal(ends[1], [1.0, 0.0, 0.0, 0.0])


@settings(max_examples=30)
@given(st.lists(st.floats(-2, 2, width=32), min_size=4, max_size=4), st.floats(0, 1, width=32))
def test_the_proximal_step_is_soft_thresholding_of_what_a_step_leaves(step, strength):
    """sign(x) max(|x| − s, 0) at x = p + u; exact zeros where |x| ≤ s."""
    p = np.float32([1.0, -0.5, 0.0, 0.02])
    moved = p + np.float32(step)
    tx = transforms.prox_l1(strength)
    with jax.disable_jit():
        updates, _ = tx.update(jnp.float32(step), tx.init(p), jnp.asarray(p))
    found = np.asarray(optax.apply_updates(jnp.asarray(p), updates))
    np.testing.assert_allclose(found, np.sign(moved) * np.maximum(np.abs(moved) - strength, 0), atol=3e-7)
    assert (found[np.abs(moved) <= np.float32(strength)] == 0).all()


def test_the_proximal_step_follows_a_schedule():
    tx = transforms.prox_l1(optax.piecewise_constant_schedule(0.25, {1: 0.5}))
    params, state = {"w": jnp.ones(1)}, tx.init({"w": jnp.ones(1)})
    for left in (0.75, 0.625):
        updates, state = tx.update({"w": jnp.zeros(1)}, state, params)
        params = optax.apply_updates(params, updates)
        assert float(params["w"][0]) == left


@pytest.mark.parametrize("unit", [units.element(), units.axis(-1)], ids=["weights", "channels"])
def test_a_projection_keeps_the_largest_of_what_a_step_leaves(unit):
    """Exactly k, chosen anew: a weight that is zero returns with its first step; biases move on."""
    tx = optax.chain(optax.sgd(0.5, momentum=0.9), transforms.project_l0(0.5, unit=unit))
    step = jax.jit(lambda g, s, p: (lambda u, s: (optax.apply_updates(p, u), s))(*tx.update(g, s, p)))
    params, state = PARAMS, tx.init(PARAMS)
    plain, trace = PARAMS, optax.sgd(0.5, momentum=0.9)
    memory = trace.init(PARAMS)
    kept = []
    for i in range(3):
        grads = jax.tree.map(lambda p: jnp.sin(9 * p + i), PARAMS)
        updates, memory = trace.update(grads, memory)
        moved = optax.apply_updates(params, updates)
        mask = jt.select(jnp.abs(moved["conv"]["kernel"]), 0.5, unit=unit, scope=scopes.tree())
        params, state = step(grads, state, params)
        expected = jnp.where(mask, moved["conv"]["kernel"], 0)
        np.testing.assert_allclose(params["conv"]["kernel"], expected, rtol=1e-5)
        np.testing.assert_array_equal(params["conv"]["kernel"] != 0, jnp.broadcast_to(mask, (3, 4)))
        kept.append(np.broadcast_to(mask, (3, 4)))
        plain = optax.apply_updates(plain, updates)
        np.testing.assert_allclose(params["conv"]["bias"], plain["conv"]["bias"], rtol=1e-6)
    assert (kept[1] & ~kept[0]).any()


def test_scales_to_keep_golden():
    scales = {"norm": {"scale": jnp.asarray(GOLDEN["scales"]), "bias": jnp.ones(4)}}
    found = transforms.scales_to_keep(scales, energy=GOLDEN["energy"])
    np.testing.assert_array_equal(found["norm"]["scale"], GOLDEN["kept"])
    assert found["norm"]["bias"] is None
    pruned = updates_of(transforms.add_l1(1.0, masks.complement(found)), scales, scales)["norm"]["scale"]
    np.testing.assert_array_equal(pruned != jnp.asarray(GOLDEN["scales"]), ~np.asarray(GOLDEN["kept"]))


@pytest.mark.parametrize(
    ("scales", "kept"),
    [
        ([1.0, 1.0, 1.0, 1.0], [1, 1, 1, 1]),  # a threshold at a value that all have would take them all
        ([0.0, 2.0, 0.0, 1.0], [0, 1, 0, 1]),
        ([1e-4, -9e-4, 2e-4, 9e-4], [0, 1, 0, 0]),  # a layer that is not used: one is left
        ([0.0, 0.0, 0.0, 0.0], [1, 0, 0, 0]),
    ],
)
def test_scales_to_keep_at_the_edges(scales, kept):
    found = transforms.scales_to_keep({"scale": jnp.asarray(scales)})
    np.testing.assert_array_equal(found["scale"], np.asarray(kept, bool))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: transforms.add_l1(-1.0), InputError, "strength=-1.0"),
        (lambda: transforms.prox_l1(-1.0), InputError, "strength=-1.0"),
        (lambda: transforms.smooth_sign(0.0), InputError, "width=0.0"),
        (lambda: transforms.add_l1(1.0).update(GRADS, ()), InputError, "add_l1: params=None"),
        (lambda: transforms.prox_l1(1.0).update(GRADS, ()), InputError, "prox_l1: params=None"),
        (lambda: transforms.project_l0(0.5).update(GRADS, ()), InputError, "project_l0: params=None"),
        (lambda: updates_of(transforms.project_l0(1.5)), InputError, "density=1.5"),
        (lambda: updates_of(transforms.add_l1(1.0, {"conv": None})), StructureError, "mask does not have"),
        (lambda: updates_of(transforms.add_l1(1.0, filters.match("nothing"))), NoMatchError, "where"),
        (lambda: transforms.scales_to_keep(PARAMS, energy=1.0), InputError, "energy=1.0"),
        (lambda: transforms.scales_to_keep({"w": jnp.ones(2)}), NoMatchError, "where"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
