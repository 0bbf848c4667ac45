"""Law 1: exactly k survivors, equal to a stable sort of the keys; laws 2, 3 and 8 where one device is enough."""

import functools
import json
import pathlib

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxticket import scopes, selection, units
from jaxticket.errors import InputError, StructureError
from tests.selection import oracle
from tests.tiers import sample

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "selection.json").read_text())
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, np.nan, -np.nan, np.inf, -np.inf, 1e-40, 2e-40, -1e-40, 3.4e38, -3.4e38]
VALUES = st.one_of(st.sampled_from(SPECIAL), st.floats(width=32))
ARRAYS = hnp.arrays(np.float32, st.sampled_from([(1,), (7,), (16,), (3, 5), (2, 3, 4)]), elements=VALUES)
# A few pairs of shapes, since each compiles again.
PAIRS = st.sampled_from([((1,), (7,)), ((16,), (3, 5)), ((2, 3, 4), (1,)), ((3, 5), (2, 3, 4))]).flatmap(
    lambda shapes: st.tuples(*(hnp.arrays(np.float32, shape, elements=VALUES) for shape in shapes))
)
DENSITIES = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 0.25]), st.floats(0, 1, width=32))


@functools.partial(jax.jit, static_argnames=("scope", "unit"))
def compiled(scores, density, mask=None, scope=scopes.leaf(), unit=units.element()):
    return selection.select(scores, density, scope=scope, unit=unit, mask=mask)


@settings(max_examples=150)
@given(scores=ARRAYS, density=DENSITIES)
def test_leaf_scope_is_a_stable_sort_of_the_keys(scores, density):
    # A number is multiplied in float64, an array in float32: 0.7 of 25 are 17 or 18.
    exact, rounded = oracle.count(density, scores.size), oracle.count(np.float32(density), scores.size)
    np.testing.assert_array_equal(selection.select(scores, density), oracle.top(scores, exact))
    np.testing.assert_array_equal(compiled(scores, jnp.float32(density)), oracle.top(scores, rounded))


@settings(max_examples=60)
@example(leaves=(np.ones((2, 3, 4), np.float32), np.ones(1, np.float32)), density=float(np.float32(0.7)))
@given(leaves=PAIRS, density=DENSITIES)
def test_tree_scope_is_a_stable_sort_of_the_concatenated_keys(leaves, density):
    a, b = leaves
    together = np.concatenate([a.ravel(), b.ravel()])
    expected = oracle.top(together, oracle.count(np.float32(density), together.size))
    mask = compiled({"a": a, "b": b, "c": None}, jnp.float32(density), scope=scopes.tree())
    assert mask["c"] is None
    np.testing.assert_array_equal(np.concatenate([np.ravel(mask["a"]), np.ravel(mask["b"])]), expected)


@settings(max_examples=60)
@given(data=st.data(), scores=ARRAYS, density=DENSITIES)
def test_survivors_are_chosen_among_survivors(data, scores, density):
    alive = data.draw(hnp.arrays(bool, scores.shape))
    mask = compiled(scores, jnp.float32(density), alive)
    np.testing.assert_array_equal(mask, oracle.top(scores, oracle.count(np.float32(density), scores.size), alive))


@given(
    scores=hnp.arrays(np.int32, (9,), elements=st.sampled_from([-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1])),
    alive=hnp.arrays(bool, (9,)),
    density=DENSITIES,
)
@settings(max_examples=60)
def test_integers_with_their_extremes(scores, alive, density):
    np.testing.assert_array_equal(
        compiled(scores, jnp.float32(density), alive), oracle.top(scores, oracle.count(np.float32(density), 9), alive)
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.int8, jnp.uint8, jnp.uint32, jnp.int16])
@pytest.mark.parametrize("k", range(13))
def test_every_k_of_every_dtype(dtype, k):
    values = np.array([3, 1, 2, 2, 0, 3, 1, 1, 2, 0, 100, 7])
    if jnp.issubdtype(dtype, jnp.signedinteger) or jnp.issubdtype(dtype, jnp.floating):
        values = values * np.array([1, -1] * 6)
    scores = jnp.asarray(values).astype(dtype)
    mask = compiled(scores, jnp.float32(k / 12))
    np.testing.assert_array_equal(mask, oracle.top(np.asarray(scores.astype(jnp.float32)), k))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_denormals_of_half_floats_are_distinct(dtype):
    bits = jnp.array([1, 3, 0, 2, 0x8001], jnp.uint16)  # the smallest denormals, 0, and a negative one
    scores = jax.lax.bitcast_convert_type(bits, dtype)
    np.testing.assert_array_equal(compiled(scores, jnp.float32(0.4)), [False, True, False, True, False])
    np.testing.assert_array_equal(compiled(scores, jnp.float32(0.8)), [True, True, True, True, False])


def test_float64_under_x64():
    with jax.enable_x64(True):
        scores = jnp.array([1.0, 1.0 + 1e-12, -1.0, np.nan], jnp.float64)
        np.testing.assert_array_equal(selection.select(scores, 0.25), [False, True, False, False])


def test_all_equal_keeps_the_lowest_indices():
    mask = compiled({"a": jnp.ones((2, 3)), "b": jnp.ones(4)}, jnp.float32(0.7), scope=scopes.tree())
    assert int(mask["a"].sum()) == 6
    assert mask["b"].tolist() == [True, False, False, False]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_slices_compete_within_themselves(axis):
    scores = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.float32)
    mask = np.moveaxis(np.asarray(compiled(scores, jnp.float32(0.3), scope=scopes.slices(axis))), axis, 0)
    for kept, slice_ in zip(mask, np.moveaxis(scores, axis, 0), strict=True):
        np.testing.assert_array_equal(kept, oracle.top(slice_, oracle.count(0.3, slice_.size)))


@given(
    scores=hnp.arrays(np.float32, (11, 3), elements=st.sampled_from(SPECIAL)),
    m=st.sampled_from([1, 2, 4, 5, 16]),
    axis=st.sampled_from([0, 1]),
    density=DENSITIES,
)
@settings(max_examples=40)
def test_groups_are_exact_on_every_axis_with_a_remainder(scores, m, axis, density):
    mask = np.moveaxis(np.asarray(compiled(scores, jnp.float32(density), scope=scopes.groups(m, axis=axis))), axis, 0)
    lines = np.moveaxis(scores, axis, 0)
    for first in range(0, len(lines), m):
        group, kept = lines[first : first + m], mask[first : first + m]
        for column in range(group.shape[1]):
            expected = oracle.top(group[:, column], oracle.count(np.float32(density), len(group)))
            np.testing.assert_array_equal(kept[:, column], expected)


def test_two_of_four_golden():
    golden = GOLDEN["two_of_four"]
    mask = compiled(jnp.array(golden["scores"], jnp.float32), jnp.float32(0.5), scope=scopes.groups(4))
    np.testing.assert_array_equal(mask, golden["kept"])


def test_blocks_live_and_die_together():
    golden = GOLDEN["blocks"]
    scores = jnp.array(golden["scores"], jnp.float32)
    mask = selection.select(scores, golden["density"], unit=units.block(2, 2))
    np.testing.assert_array_equal(mask, golden["kept"])


def test_single_weight_blocks_are_elements():
    scores = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(selection.select(scores, 0.4, unit=units.block(1, 1)), selection.select(scores, 0.4))


def test_channel_masks_cost_one_entry_a_channel_and_compete_over_the_tree():
    scores = {"a": jnp.array([[3.0, 0.0], [3.0, 0.0]]), "b": jnp.array([[1.0, 2.0, 9.0]])}
    mask = selection.select(scores, 0.4, unit=units.axis(-1), scope=scopes.tree())
    assert mask["a"].tolist() == [[True, False]]
    assert mask["b"].tolist() == [[False, False, True]]


def test_heads_and_leaves():
    fused = jnp.array([[1.0, 1.0, 5.0, 5.0, 2.0, 2.0]])
    assert selection.select(fused, 1 / 3, unit=units.heads(3)).tolist() == [[False, False, True, True, False, False]]
    layers = {"a": jnp.ones((2, 2)), "b": 3 * jnp.ones((1, 3))}
    kept = selection.select(layers, 0.5, unit=units.leaf(), scope=scopes.tree())
    assert kept["a"].tolist() == [[False]]
    assert kept["b"].tolist() == [[True]]


@pytest.mark.parametrize("unit", [units.element(), units.axis(-1), units.block(2, 2), units.heads(3), units.leaf()])
def test_the_costs_of_units_add_up_to_the_weights(unit):
    assert float(unit.cost({"w": jnp.zeros((5, 6))})["w"].sum()) == 30


def test_density_by_leaf_may_be_traced_and_none_leaves_a_leaf_out():
    scores = {"a": jnp.arange(4.0), "b": jnp.arange(4.0), "c": jnp.arange(4.0)}
    mask = jax.jit(selection.select)(scores, {"a": jnp.float32(0.5), "b": jnp.float32(1.0), "c": None})
    assert mask["a"].tolist() == [False, False, True, True]
    assert all(mask["b"])
    assert mask["c"] is None


def test_vmap_is_a_loop_over_replicates():
    scores = np.random.default_rng(2).integers(0, 4, (5, 6, 4)).astype(np.float32)
    densities = jnp.array([0.0, 0.1, 0.5, 0.9, 1.0])
    together = jax.jit(jax.vmap(lambda s, d: selection.select(s, d)))(scores, densities)
    for s, d, mask in zip(scores, densities, together, strict=True):
        np.testing.assert_array_equal(compiled(s, d), mask)


def test_nested_vmap_keeps_the_tie_break_conditional():
    nested = jax.vmap(jax.vmap(lambda s: selection.select(s, 0.5)))
    assert " conditional(" in jax.jit(nested).lower(jnp.ones((2, 3, 8))).compile().as_text()


def test_pmap_gives_each_device_its_own_selection():
    scores = jnp.asarray(np.random.default_rng(3).normal(size=(8, 10)), jnp.float32)
    masks = jax.pmap(lambda s: selection.select(s, 0.3))(scores)
    np.testing.assert_array_equal(masks, np.stack([selection.select(s, 0.3) for s in scores]))


def test_one_compile_for_all_densities_and_masks():
    traces = 0

    @jax.jit
    def f(s, d, m):
        nonlocal traces
        traces += 1
        return selection.select(s, d, mask=m)

    for d in (0.1, 0.5, 1.0):
        f(jnp.arange(6.0), jnp.float32(d), jnp.arange(6) < 6 * d)
    assert traces == 1
    selection.select(jnp.arange(6.0), 0.25)
    cached = selection.select.__globals__["_top"]._cache_size()
    selection.select(jnp.arange(6.0), 0.75)  # eagerly too: the count is an argument of the compiled program
    assert selection.select.__globals__["_top"]._cache_size() == cached


def test_many_leaves_cost_one_loop_and_no_sort_or_concatenation():
    scores = {str(i): jnp.ones((3, i + 1)) for i in range(20)}
    for scope in (scopes.leaf(), scopes.tree()):
        text = jax.jit(functools.partial(selection.select, density=0.5, scope=scope)).lower(scores).as_text()
        # One bisection on the keys; those on positions stand in the conditional.
        assert text.count("stablehlo.while") <= 3
        assert "stablehlo.sort" not in text
        assert "stablehlo.gather" not in text


@pytest.mark.parametrize("shape", [(70_000, 40_000), (2, 2**20, 2**20), (3, 3, 40_000, 40_000)])
@pytest.mark.parametrize("scope", sample([scopes.tree(), scopes.leaf()], [scopes.tree()]))
def test_leaves_beyond_2_to_the_31_lower(shape, scope):
    abstract = {"w": jax.ShapeDtypeStruct(shape, jnp.float32), "b": jax.ShapeDtypeStruct((7,), jnp.float32)}
    jax.jit(functools.partial(selection.select, density=0.1, scope=scope)).lower(abstract)


def test_threshold_is_the_kth_largest():
    scores = np.random.default_rng(4).normal(size=(20, 10)).astype(np.float32)
    ordered = np.sort(scores.ravel())[::-1]
    traced = jax.jit(selection.threshold)
    for k in (1, 2, 57, 200):
        assert selection.threshold({"a": scores[:5], "b": scores[5:]}, k) == ordered[k - 1] == traced(scores, k)
    assert jnp.isnan(selection.threshold(jnp.array([1.0, jnp.nan]), 2))
    assert selection.threshold(jnp.array([-3, 2**31 - 1, -(2**31)]), 3) == -(2**31)
    assert selection.threshold(jnp.array([-jnp.inf, -1.0]), 2) == -jnp.inf


def test_drop_and_grow_golden():
    golden = GOLDEN["drop_and_grow"]
    mask = selection.drop_and_grow(
        jnp.isin(jnp.arange(8), jnp.array(golden["alive"])),
        drop=jnp.abs(jnp.array(golden["weights"])),
        grow=jnp.abs(jnp.array(golden["gradients"])),
        density=golden["density"],
        drop_fraction=golden["drop_fraction"],
    )
    assert np.flatnonzero(mask).tolist() == golden["kept"]


@settings(max_examples=60)
@given(data=st.data(), fraction=st.floats(0, 1, width=32), given_density=st.booleans())
def test_drop_and_grow_keeps_the_best_and_is_exact(data, fraction, given_density):
    drop = data.draw(hnp.arrays(np.float32, (12,), elements=st.sampled_from([0.0, 1, 2, 3])))
    grow = data.draw(hnp.arrays(np.float32, (12,), elements=st.sampled_from([0.0, 1, 2, 3])))
    mask = data.draw(hnp.arrays(bool, (12,)))
    alive = int(mask.sum())
    density = np.float32(alive / 12) if given_density else None
    new = selection.drop_and_grow(mask, drop=drop, grow=grow, density=density, drop_fraction=jnp.float32(fraction))
    keep = int(np.rint(np.float32(1 - fraction) * np.float32(alive)))
    if given_density:
        keep = min(int(np.rint(np.float32(density * np.float32(1 - fraction)) * np.float32(12))), alive)
    kept = oracle.top(drop, keep, mask)
    grown = oracle.top(grow, alive - keep, ~kept)
    np.testing.assert_array_equal(new, kept | grown)


def test_drop_fraction_zero_changes_nothing():
    mask = jnp.array([True, False, True, False])
    new = selection.drop_and_grow(mask, drop=jnp.zeros(4), grow=jnp.ones(4), drop_fraction=0.0)
    np.testing.assert_array_equal(new, mask)


def test_units_are_dropped_and_grown_whole():
    mask = jnp.array([[True, True, False, False]])
    scores = jnp.array([[5.0, 1.0, 2.0, 3.0]])
    new = selection.drop_and_grow(mask, drop=scores, grow=scores, drop_fraction=0.5, unit=units.axis(-1))
    np.testing.assert_array_equal(new, [[True, False, False, True]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: selection.select(jnp.ones(3), 1.5), "density=1.5"),
        (lambda: selection.select(jnp.ones(3), -0.1), "density=-0.1"),
        (lambda: selection.select(jnp.ones(3), float("nan")), "density=nan"),
        (lambda: selection.select({"a": jnp.ones(3)}, {"a": 0.1}, scope=scopes.tree()), "share one density"),
        (lambda: selection.select({"a": jnp.ones(3)}, {"a": 2.0}), "density=2.0"),
        (lambda: selection.select({"a": jnp.ones(3), "b": jnp.ones(3, int)}, 0.5, scope=scopes.tree()), "dtypes"),
        (lambda: selection.select(jnp.ones(3), 0.5, scope=scopes.slices(1)), "no axis 1"),
        (lambda: selection.select(jnp.ones(3), 0.5, scope=scopes.groups(2)), "no axis -2"),
        (lambda: selection.select(jnp.ones(3), 0.5, unit=units.axis(1)), "no axis 1"),
        (lambda: selection.select(jnp.ones((3, 4)), 0.5, unit=units.heads(3)), "does not divide"),
        (lambda: selection.select(jnp.ones(3), 0.5, unit=units.block(2, 2)), "does not fit"),
        (lambda: units.block(0), "1 or more"),
        (lambda: units.heads(0), "1 or more"),
        (lambda: scopes.groups(0), "1 or more"),
        (lambda: selection.threshold(jnp.ones(3), 0), "k=0"),
        (lambda: selection.threshold(jnp.ones(3), 4), "k=4"),
        (lambda: selection.threshold({}, 1), "no entries"),
        (
            lambda: selection.drop_and_grow(jnp.ones(2, bool), drop=jnp.ones(2), grow=jnp.ones(2), drop_fraction=1.1),
            "drop_fraction=1.1",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(
    ("mask", "message"), [({"b": jnp.ones(3, bool)}, "structure"), ({"a": jnp.ones(2, bool)}, "does not broadcast")]
)
def test_masks_that_do_not_fit_are_named(mask, message):
    with pytest.raises(StructureError, match=message):
        selection.select({"a": jnp.ones(3)}, 0.5, mask=mask)
