"""Densities from scores, and from how much the outputs change."""

import itertools
import json
import pathlib

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import allocate, apply_mask, filters, scopes, scores, select
from jaxticket.allocate import _distortion
from jaxticket.errors import InputError, StructureError

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "allocate.json").read_text())
RNG = np.random.default_rng(2)
PARAMS = {
    name: {"kernel": jnp.asarray(RNG.normal(size=shape) * scale, jnp.float32), "bias": jnp.zeros((1, shape[1]))}
    for name, shape, scale in [("a", (6, 12), 1.0), ("b", (12, 12), 0.3), ("c", (12, 3), 0.02)]
}
INPUTS = jnp.asarray(RNG.normal(size=(32, 6)), jnp.float32)
SIZES = [72, 144, 36]


def apply(params, x):
    for name in "ab":
        x = jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"])
    return x @ params["c"]["kernel"] + params["c"]["bias"]


def counts(densities):
    products = [densities[name]["kernel"] * n for name, n in zip("abc", SIZES)]
    np.testing.assert_allclose(products, np.rint(products), rtol=1e-12)
    assert all(densities[name]["bias"] is None for name in "abc")
    return [round(p) for p in products]


def test_scores_give_the_densities_of_their_global_mask():
    scored = scores.magnitude(PARAMS)
    mask = select(filters.only(scored, filters.weights()), 0.3, scope=scopes.tree())
    densities = allocate.from_scores(PARAMS, scored, 0.3)
    assert densities == allocate.from_mask(PARAMS, mask)
    assert sum(counts(densities)) == round(0.3 * 252)
    assert counts(densities)[2] == 0  # its weights are the smallest: a random mask of these densities has none


@pytest.mark.parametrize("minimum", [0, 1])
def test_topfill_golden(minimum):
    golden = GOLDEN["topfill"]
    scored = {name: jnp.array(values) for name, values in golden["scores"].items()}
    densities = allocate.from_scores(scored, scored, golden["density"], where=filters.everything(), minimum=minimum)
    assert [densities["a"] * 4, densities["b"] * 2] == golden["counts"][str(minimum)]


def test_from_scores_errors():
    scored = scores.magnitude(PARAMS)
    with pytest.raises(InputError, match="traced"):
        jax.jit(lambda s: allocate.from_scores(PARAMS, s, 0.3))(scored)
    with pytest.raises(StructureError, match="scores"):
        allocate.from_scores(PARAMS, {"a": scored["a"]}, 0.3)
    with pytest.raises(InputError, match="density=2"):
        allocate.from_scores(PARAMS, scored, 2)
    with pytest.raises(InputError, match="minimum=100"):
        allocate.from_scores(PARAMS, scored, 0.3, minimum=100)


@hypothesis.given(
    curves=st.lists(st.lists(st.integers(0, 30), min_size=11, max_size=11), min_size=3, max_size=3),
    sizes=st.lists(st.integers(1, 40), min_size=3, max_size=3),
    part=st.floats(0, 1),
)
@hypothesis.settings(max_examples=40)
def test_the_dynamic_program_finds_what_trying_everything_finds(curves, sizes, part):
    costs = [np.rint(np.linspace(0, 1, 11) * n).astype(np.int64) for n in sizes]
    budget = int(part * sum(sizes))
    curves = [np.array(c, float) for c in curves]
    picked = _distortion.cheapest(curves, costs, budget)
    value = lambda choice: sum(c[j] for c, j in zip(curves, choice))
    cost = lambda choice: sum(c[j] for c, j in zip(costs, choice))
    feasible = [choice for choice in itertools.product(range(11), repeat=3) if cost(choice) <= budget]
    assert cost(picked) <= budget
    assert value(picked) == min(map(value, feasible))


def test_the_dynamic_program_prunes_what_costs_nothing_first():
    costs = [np.arange(0, 110, 10)] * 3
    free, line = np.zeros(11), np.arange(10.0, -1, -1)
    assert _distortion.cheapest([line, free, line], costs, 200) == [10, 0, 10]


def test_the_budget_is_never_exceeded_in_bins():
    """60,000 weights are counted in bins of 3: twenty leaves of 3,001 take 1,001 bins each, and one is too many."""
    picked = _distortion.cheapest([np.array([1.0, 0.0])] * 20, [np.array([0, 3001])] * 20, 60_000)
    assert sum(picked) == 19


def test_the_change_of_the_outputs():
    change = _distortion.output_change(PARAMS, apply, INPUTS)
    dense = np.asarray(apply(PARAMS, INPUTS), np.float64)
    full = allocate.uniform(PARAMS, 1.0)
    for name, k, size in zip("abc", (20, 60, 5), SIZES):
        kernel = np.asarray(PARAMS[name]["kernel"])
        pruned = np.where(abs(kernel) >= np.sort(abs(kernel), None)[-k], kernel, 0)
        changed = np.asarray(apply(PARAMS | {name: PARAMS[name] | {"kernel": jnp.asarray(pruned)}}, INPUTS), np.float64)
        expected = np.mean((changed - dense) ** 2)
        np.testing.assert_allclose(change(full | {name: full[name] | {"kernel": k / size}}), expected, rtol=1e-4)
    assert change(full) == 0


def test_the_worst_change_is_that_of_an_example():
    """Max over examples of the mean over classes: the authors' commands all choose by it."""
    params = {"a": jnp.array([[3.0, 1.0], [2.0, 4.0]])}
    x = jnp.array([[1.0, 0.0], [2.0, 2.0], [0.0, 1.0]])
    options = {"where": filters.everything()}
    changed = np.square([[0, 1], [0, 2], [0, 0]])  # without the smallest weight
    for over, expected in (("mean", changed.mean()), ("worst", changed.mean(1).max())):
        change = _distortion.output_change(params, lambda p, x: x @ p["a"], x, over=over, **options)
        np.testing.assert_allclose(change({"a": 0.75}), expected, rtol=1e-6)
    # A leaf of small changes to all examples, and one that changes a single example much: which is pruned turns.
    rare = {"all": jnp.full((1, 1), 1.2), "rare": jnp.full((1, 1), 2.0)}

    def apply_both(params, x):
        return x[:, :1] @ params["all"] + x[:, 1:] @ params["rare"]

    inputs = jnp.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    found = {
        over: allocate.rate_distortion(rare, apply_both, inputs, 0.5, levels=3, over=over, **options)
        for over in ("mean", "worst")
    }
    assert found == {"mean": {"all": 1.0, "rare": 0.0}, "worst": {"all": 0.0, "rare": 1.0}}


def test_rate_distortion_changes_the_outputs_least_and_compiles_once():
    traced = []

    def counted(params, x):
        traced.append(1)
        return apply(params, x)

    densities = allocate.rate_distortion(PARAMS, counted, INPUTS, 0.3, levels=21, minimum=3)
    assert len(traced) == 2  # the dense outputs, and the program that prunes
    assert sum(counts(densities)) == round(0.3 * 252)
    assert min(counts(densities)) >= 3
    dense = apply(PARAMS, INPUTS)

    def change(densities):
        masked = apply_mask(PARAMS, select(scores.magnitude(PARAMS), densities))
        return jnp.mean(jnp.square(apply(masked, INPUTS) - dense))

    others = [allocate.uniform(PARAMS, 0.3), allocate.erk(PARAMS, 0.3)]
    assert all(change(densities) < change(other) for other in others)


def test_rate_distortion_errors():
    with pytest.raises(InputError, match="over='median'"):
        allocate.rate_distortion(PARAMS, apply, INPUTS, 0.5, over="median")
    with pytest.raises(InputError, match="levels=11 are too coarse"):
        allocate.rate_distortion(PARAMS, apply, INPUTS, 0.05, levels=11)
    with pytest.raises(InputError, match="traced"):
        jax.jit(lambda p: allocate.rate_distortion(p, apply, INPUTS, 0.5))(PARAMS)
    with pytest.raises(InputError, match="minimum=36 hold 108"):
        allocate.rate_distortion(PARAMS, apply, INPUTS, 0.3, minimum=36)
    with pytest.raises(InputError, match="not finite"):
        allocate.rate_distortion(PARAMS, lambda p, x: jnp.inf * p["a"]["kernel"], INPUTS, 0.5, levels=3)
