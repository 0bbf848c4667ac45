"""Allocations spend the budget exactly and agree with the published numbers."""

import json
import math
import pathlib

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import allocate, diagnostics, filters
from jaxticket.errors import InputError, NoMatchError, StructureError

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "allocate.json").read_text())
KINDS = [allocate.uniform, allocate.erdos_renyi, allocate.erk]

shapes = st.lists(
    st.lists(st.integers(1, 12), min_size=2, max_size=4).map(tuple),
    min_size=1,
    max_size=6,
)


def tree(shapes):
    """Layers without data, in the order of `shapes`, each with a bias that is not sparsified."""
    return [
        {"kernel": jax.ShapeDtypeStruct(tuple(s), jnp.float32), "bias": jax.ShapeDtypeStruct((s[-1],), jnp.float32)}
        for s in shapes
    ]


def kernels(densities):
    return [layer["kernel"] for layer in densities]


def counts(densities, shapes):
    products = [d * math.prod(s) for d, s in zip(kernels(densities), shapes)]
    np.testing.assert_allclose(products, np.rint(products), rtol=1e-12)
    return [round(p) for p in products]


@pytest.mark.parametrize("kind", KINDS)
@hypothesis.given(shapes=shapes, density=st.floats(0, 1))
@hypothesis.settings(max_examples=60)
def test_the_sum_is_exact_and_no_layer_dies_or_overflows(kind, shapes, density):
    sizes = [math.prod(s) for s in shapes]
    budget = int(np.rint(density * sum(sizes)))
    densities = kind(tree(shapes), density)
    kept = counts(densities, shapes)
    assert sum(kept) == budget
    assert all(k <= n for k, n in zip(kept, sizes))
    assert all(type(d) is float for d in kernels(densities))
    assert all(layer["bias"] is None for layer in densities)
    if budget >= len(sizes):
        assert min(kept) >= 1


@pytest.mark.parametrize("kind", KINDS)
@hypothesis.given(shapes=shapes, data=st.data())
@hypothesis.settings(max_examples=30)
def test_dense_leaves_count_in_the_budget(kind, shapes, data):
    shapes = [*shapes, (2, 3)]
    sizes = [math.prod(s) for s in shapes]
    budget = data.draw(st.integers(6, sum(sizes)))
    densities = kind(tree(shapes), budget / sum(sizes), dense=[f"^{len(shapes) - 1}/"])
    assert kernels(densities)[-1] == 1.0
    assert sum(counts(densities, shapes)) == budget


@pytest.mark.parametrize(("case", "rtol"), [("mlp", 1e-6), ("conv", 1e-4), ("half", 1e-6)])
def test_erk_golden(case, rtol):
    golden = GOLDEN[case]
    published = golden.get("counts") or [d * math.prod(s) for d, s in zip(golden["densities"], golden["shapes"])]
    kept = counts(allocate.erk(tree(golden["shapes"]), golden["density"]), golden["shapes"])
    assert sum(kept) == golden["budget"]
    np.testing.assert_allclose(kept, published, rtol=rtol, atol=1)


def test_erk_shares_follow_the_kernel_and_er_only_the_channels():
    # Two layers, far from 1: the ratio of densities is that of the raw scores.
    layers = [(5, 5, 64, 64), (1, 1, 400, 400)]
    a, b = kernels(allocate.erk(tree(layers), 0.01))
    assert a / b == pytest.approx((138 / 102400) / (802 / 160000), rel=0.01)
    a, b = kernels(allocate.erdos_renyi(tree(layers), 0.01))
    assert a / b == pytest.approx((128 / 4096) / (800 / 160000), rel=0.01)


def test_erk_power():
    layers = [(40, 30), (300, 100), (100, 100)]
    assert allocate.erk(tree(layers), 0.3, power=0) == allocate.uniform(tree(layers), 0.3)
    a, _, c = kernels(allocate.erk(tree(layers), 0.01, power=0.5))
    assert a / c == pytest.approx(math.sqrt((70 / 1200) / (200 / 10000)), rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
@hypothesis.given(shapes=shapes, data=st.data())
@hypothesis.settings(max_examples=30)
def test_every_leaf_keeps_its_floor_and_the_sum_stays_exact(kind, shapes, data):
    sizes = [math.prod(s) for s in shapes]
    minimum = data.draw(st.integers(1, 20))
    held = [min(minimum, n) for n in sizes]
    budget = data.draw(st.integers(sum(held), sum(sizes)))
    kept = counts(kind(tree(shapes), budget / sum(sizes), minimum=minimum), shapes)
    assert sum(kept) == budget
    assert all(low <= k <= n for low, k, n in zip(held, kept, sizes))


def test_a_floor_is_taken_from_the_others_in_proportion():
    layers = [(1, 1000), (1, 1000), (1, 40)]
    assert counts(allocate.uniform(tree(layers), 204 / 2040), layers) == [100, 100, 4]
    assert counts(allocate.uniform(tree(layers), 204 / 2040, minimum=24), layers) == [90, 90, 24]


@hypothesis.given(shapes=shapes, data=st.data())
@hypothesis.settings(max_examples=30)
def test_uniform_plus_protects_both_ends_and_divides_by_the_middle(shapes, data):
    shapes = [(2, 3), *shapes, (3, 5)]
    sizes = [math.prod(s) for s in shapes]
    budget = data.draw(st.integers(6 + 3 + len(shapes), sum(sizes)))
    kept = counts(
        allocate.uniform_plus(tree(shapes), budget / sum(sizes), first="^0/", last=f"^{len(shapes) - 1}/"), shapes
    )
    assert sum(kept) == budget
    assert kept[0] == 6
    assert kept[-1] >= 3
    even = [(k / n, 1 / n) for k, n in zip(kept[1:-1], sizes[1:-1]) if k > 1]
    assert all(abs(a - b) <= of_a + of_b + 1e-9 for a, of_a in even for b, of_b in even)


def test_uniform_plus_is_uniform_behind_the_first_layer_where_the_last_has_its_fifth():
    layers = [(10, 10)] * 4
    assert counts(allocate.uniform_plus(tree(layers), 0.55, first="^0/", last="^3/"), layers) == [100, 40, 40, 40]
    assert counts(allocate.uniform_plus(tree(layers), 0.35, first="^0/", last="^3/"), layers) == [100, 10, 10, 20]
    with pytest.raises(InputError, match="hold 120; raise"):
        allocate.uniform_plus(tree(layers), 0.29, first="^0/", last="^3/")


@pytest.mark.parametrize("kind", [allocate.uniform, allocate.erk])
@hypothesis.given(shapes=shapes, fraction=st.floats(0.2, 1), places=st.integers(1, 50))
@hypothesis.settings(max_examples=20)
def test_flops_are_the_most_that_is_affordable(kind, shapes, fraction, places):
    layers = [(4, 8), *shapes]
    params = tree(layers)
    positions = {"^0/": places}
    costs = [places, *[1] * len(shapes)]
    densities = allocate.for_flops(params, fraction, allocate=kind, positions=positions)
    dense = diagnostics.flops(params, positions=positions) // 2
    kept = counts(densities, layers)
    assert kept == counts(kind(params, sum(kept) / sum(math.prod(s) for s in layers)), layers)
    assert np.dot(kept, costs) <= fraction * dense + 1e-6
    if sum(kept) < sum(math.prod(s) for s in layers):
        more = counts(kind(params, (sum(kept) + 1) / sum(math.prod(s) for s in layers)), layers)
        assert np.dot(more, costs) > fraction * dense - 1e-6


def test_flops_with_dense_leaves_and_errors():
    params = tree([(3, 3, 1, 4), (4, 10)])
    some = lambda params, density, *, where: allocate.uniform(params, density, where=where, dense=["^1/"])
    densities = allocate.for_flops(params, 0.29, allocate=some, positions={"^0/": 10})
    assert kernels(densities) == [7 / 36, 1.0]  # 0.29 · 400 = 116 = 7 · 10 + 40 + 6 that are left
    with pytest.raises(InputError, match=r"fraction=0\.05"):
        allocate.for_flops(params, 0.05, allocate=some, positions={"^0/": 10})
    with pytest.raises(InputError, match="fraction=2"):
        allocate.for_flops(params, 2.0)
    with pytest.raises(InputError, match="at least 1"):
        allocate.for_flops(params, 0.5, positions={"^0/": 0})
    with pytest.raises(NoMatchError, match="nowhere"):
        allocate.for_flops(params, 0.5, positions={"nowhere": 2})


def test_uniform_gives_remainders_to_the_largest_then_to_the_first():
    assert counts(allocate.uniform(tree([(1, 5)] * 4), 0.5), [(1, 5)] * 4) == [3, 3, 2, 2]
    layers = [(1, 13), (1, 17)]  # 3.9 and 5.1 of 9
    assert counts(allocate.uniform(tree(layers), 0.3), layers) == [4, 5]


def test_the_budget_rounds_half_to_even():
    assert counts(allocate.uniform(tree([(1, 5)]), 0.5), [(1, 5)]) == [2]
    assert counts(allocate.uniform(tree([(1, 7)]), 0.5), [(1, 7)]) == [4]


def test_where_and_vectors():
    params = {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4), "scale": jnp.ones(())}
    densities = allocate.erk(params, 0.8, where=filters.everything())
    assert densities["bias"] == densities["scale"] == 1.0
    assert densities["kernel"] * 16 == 17 - 5
    assert allocate.uniform(params, 0.5)["bias"] is None


def test_reads_shapes_only_under_jit():
    params = {"kernel": jnp.ones((4, 8))}
    seen = []
    jax.jit(lambda p: seen.append(allocate.erk(p, 0.25)) or p)(params)
    assert seen == [{"kernel": 0.25}]


def test_rules():
    params = tree([(2, 4), (4, 5), (3, 3)])
    densities = allocate.rules(params, {"^0/": 1.0, "^[01]/": 0.5}, default=0.001)
    assert kernels(densities) == [1.0, 0.5, 1 / 9]
    assert all(layer["bias"] is None for layer in densities)
    assert kernels(allocate.rules(params, {"^1/": 0.125})) == [None, 2 / 20, None]
    with pytest.raises(NoMatchError, match="bias"):
        allocate.rules(params, {"bias": 0.5})
    with pytest.raises(InputError, match=r"\^0/=1.5"):
        allocate.rules(params, {"^0/": 1.5})
    with pytest.raises(InputError, match="default"):
        allocate.rules(params, {}, default=-0.1)


def test_from_mask():
    params = {"a": jnp.ones((4, 5)), "b": jnp.ones((2, 3)), "c": jnp.ones(3)}
    mask = {"a": jnp.arange(20).reshape(4, 5) < 7, "b": jnp.array([[True, False, False]]), "c": None}
    assert allocate.from_mask(params, mask) == {"a": 7 / 20, "b": 1 / 3, "c": None}
    with pytest.raises(InputError, match="traced"):
        jax.jit(lambda m: allocate.from_mask(params, m))(mask)
    with pytest.raises(StructureError, match="'b'"):
        allocate.from_mask(params, mask | {"b": jnp.ones((3, 3), bool)})


@pytest.mark.parametrize("kind", KINDS)
def test_errors(kind):
    params = tree([(4, 4), (4, 8)])
    for bad in (-0.1, 1.1, math.nan, math.inf, "0.5", None):
        with pytest.raises(InputError, match="density"):
            kind(params, bad)
    with pytest.raises(InputError, match="density"):
        jax.jit(lambda d: kind(params, d)["0"])(0.5)
    with pytest.raises(InputError, match="16"):
        kind(params, 0.3, dense=["^0/"])
    with pytest.raises(InputError, match="fewer"):
        kind(params, 0.9, dense=["kernel"])
    with pytest.raises(NoMatchError, match="nowhere"):
        kind(params, 0.5, dense=["nowhere"])
    with pytest.raises(NoMatchError, match="bias"):
        kind(params, 0.5, dense=["bias"])
    with pytest.raises(InputError, match="one string"):
        kind(params, 0.5, dense="^0/")
    with pytest.raises(InputError, match="regular expression"):
        kind(params, 0.5, dense=["("])
    with pytest.raises(NoMatchError):
        kind(params, 0.5, where=filters.match("nowhere"))
    with pytest.raises(InputError, match="minimum=7 hold 14"):
        kind(params, 0.2, minimum=7)
    for bad in (-1, 0.5):
        with pytest.raises(InputError, match=f"minimum={bad}"):
            kind(params, 0.5, minimum=bad)


@pytest.mark.parametrize("power", [-1, math.nan, math.inf])
def test_bad_power(power):
    with pytest.raises(InputError, match="power"):
        allocate.erk(tree([(4, 4)]), 0.5, power=power)
