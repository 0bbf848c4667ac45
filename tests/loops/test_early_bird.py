"""Early-Bird: distances by hand, under jit and vmap; WORM cuts exactly what all stored masks prune."""

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
from jaxticket import schedules, scores, units
from jaxticket.errors import InputError, StructureError
from jaxticket.loops import early_bird

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "loops.json").read_text())["early_bird"]


def bits(text):
    return jnp.array([c == "1" for c in text])


def fed(masks, **options):
    state = early_bird.init(masks[0])
    for mask in masks:
        state, distances, found = early_bird.update(state, mask, **options)
    return state, distances, found


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_golden(case):
    _, distances, found = fed([bits(mask) for mask in case["masks"]])
    np.testing.assert_allclose(distances, case["distances"], rtol=1e-6)
    assert bool(found) is case["found"]


@settings(max_examples=10)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=5, max_size=5))
def test_distances_are_those_of_numpy_whatever_the_tree(masks):
    """Split over leaves, one of them of channels, and with a leaf that is not sparsified."""
    masks = np.array(masks)
    trees = [{"a": jnp.asarray(m[:4]).reshape(1, 4), "b": jnp.asarray(m[4:]), "c": None} for m in masks]
    state, distances, _ = fed(trees)
    np.testing.assert_allclose(distances, (masks[:4] != masks[4]).mean(1), rtol=1e-6)
    assert state.masks["a"].shape == (5, 1, 4)
    assert state.masks["c"] is None
    alive = early_bird.alive(state)
    np.testing.assert_array_equal(jnp.concatenate([alive["a"][0], alive["b"]]), masks.any(0))


def test_random_masks_are_far_apart():
    """2 p (1 − p) of the entries, so that a tolerance of .1 says something."""
    masks = list(jax.random.bernoulli(jax.random.key(0), 0.3, (5, 20_000)))
    _, distances, found = fed(masks)
    np.testing.assert_allclose(distances, 2 * 0.3 * 0.7, atol=0.015)
    assert not found


def test_it_is_pure_and_compiles_once():
    masks = jax.random.bernoulli(jax.random.key(1), 0.5, (3, 6, 9))  # replicates, updates, entries
    traces = []

    @jax.jit
    @jax.vmap
    def step(state, mask):
        traces.append(1)
        return early_bird.update(state, mask)

    state = jax.vmap(early_bird.init)(masks[:, 0])
    for t in range(6):
        state, distances, _ = step(state, masks[:, t])
    assert len(traces) == 1
    for replicate in range(3):
        np.testing.assert_allclose(distances[replicate], fed(list(masks[replicate]))[1], rtol=1e-6)


def test_masks_from_the_scales_of_batch_norms():
    params = {"conv": {"kernel": jnp.ones((3, 4))}, "norm": {"scale": jnp.array([0.1, -2.0, 0.5, -0.2])}}
    score = scores.slimming(("conv/kernel", "norm/scale"))
    mask = jt.select(score(params), 0.5, unit=units.axis(-1), scope=jt.scopes.tree())
    state, distances, _ = early_bird.update(early_bird.init(mask), mask)
    np.testing.assert_array_equal(state.masks["conv"]["kernel"][-1, 0], [False, True, True, False])
    assert distances.tolist() == [1.0] * 4  # there is nothing yet to compare with


def drawn(params):
    return {"w": jnp.abs(params["w"]) > 1, "b": None}


def run(tx, params, steps):
    update = jax.jit(tx.update)
    state = tx.init(params)
    seen = [params]
    for _ in range(steps):
        updates, state = update({"w": jnp.full(3, 0.25), "b": jnp.ones(2)}, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return seen, state


def test_worm_cuts_what_all_stored_masks_prune_and_only_that():
    params = {"w": jnp.array([0.5, 5.0, 1.1]), "b": jnp.zeros(2)}
    tx = optax.chain(early_bird.worm(drawn, when=schedules.every(1), length=3), optax.sgd(1.0))
    seen, state = run(tx, params, 6)
    w = np.array([p["w"] for p in seen])
    # The first is pruned in all masks from the start: it trains until three are stored. The last leaves at its second.
    np.testing.assert_allclose(w[:, 0], [0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(w[:, 1], 5 - 0.25 * np.arange(7))
    np.testing.assert_allclose(w[:, 2], [1.1, 0.85, 0.6, 0.35, 0.35, 0.35, 0.35], rtol=1e-6)
    np.testing.assert_array_equal(seen[-1]["b"], -6 * np.ones(2))
    bird = early_bird.bird_of(state)
    assert int(bird.count) == 6
    np.testing.assert_array_equal(early_bird.alive(bird)["w"], [False, True, False])


def test_what_a_newer_mask_keeps_trains_again():
    """Grown from outside, as weight averaging or a restart may."""
    params = {"w": jnp.array([0.5, 5.0, 5.0]), "b": jnp.zeros(2)}
    tx = early_bird.worm(drawn, when=schedules.every(1), length=2)
    _, state = run(tx, params, 2)
    grown = {**params, "w": jnp.array([1.5, 5.0, 5.0])}
    updates, _ = tx.update(params, state, grown)
    np.testing.assert_array_equal(updates["w"], params["w"])


def test_worm_under_nested_vmap_is_worm_and_stays_a_conditional():
    params = {"w": jax.random.normal(jax.random.key(0), (2, 3, 4)), "b": jnp.zeros((2, 3, 2))}
    tx = early_bird.worm(drawn, when=schedules.every(2), length=2)
    steps = lambda p: jax.lax.fori_loop(0, 5, lambda _, s: tx.update(p, s, p)[1], tx.init(p))
    nested = jax.jit(jax.vmap(jax.vmap(steps)))
    found = nested(params)
    for i in range(2):
        alone = steps(jax.tree.map(lambda p: p[i, 1], params))
        np.testing.assert_array_equal(found.bird.masks["w"][i, 1], alone.bird.masks["w"])
        assert int(found.bird.count[i, 1]) == 3
    assert "cond[" in str(jax.make_jaxpr(jax.vmap(jax.vmap(steps)))(params))


def test_bad_input():
    mask = jnp.ones(3, bool)
    state = early_bird.init(mask)
    for words, call in (
        ("length=1 must be", lambda: early_bird.init(mask, length=1)),
        ("sparsifies no leaf", lambda: early_bird.init({"w": None})),
        (r"has shape \(4,\), but the queue was made for \(3,\)", lambda: early_bird.update(state, jnp.ones(4, bool))),
        ("tolerance=2", lambda: early_bird.update(state, mask, tolerance=2)),
        ("holds no EarlyBird", lambda: early_bird.bird_of(optax.sgd(0.1).init(mask))),
        ("worm: params=None", lambda: early_bird.worm(lambda p: p > 0, when=schedules.every(1)).update(mask, None)),
    ):
        with pytest.raises(InputError, match=words):
            call()
    with pytest.raises(StructureError, match="does not have the structure"):
        early_bird.update(state, {"w": mask})
