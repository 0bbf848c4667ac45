"""Shares of a budget of weights: whole counts with an exact sum, between a least and the size of each leaf."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxticket import _stacked, _tree, filters
from jaxticket._check_densities import check_affordable
from jaxticket._check_trees import check_arrays
from jaxticket._checks import check_fraction
from jaxticket._stacked import Stack
from jaxticket.errors import InputError, NoMatchError
from jaxticket.typing import Filter, Params, PyTree, Stacked

_SMALLEST = 1e-200  # of raw shares, relative to the largest: products with any size stay far from the ends of float64


class Leaf(NamedTuple):
    """A leaf that is sparsified, or a layer of a leaf that stacks several."""

    name: str
    shape: tuple[int, ...]
    size: int


def share(
    params: Params,
    density: float,
    raw: Callable[[tuple[int, ...]], float],
    *,
    where: Filter | PyTree,
    least: Mapping[str, float],
    minimum: int,
    stacked: Stacked | None,
) -> PyTree:
    """Return densities in proportion to raw(shape), within the bounds of each leaf, that spend the whole budget.

    `least` are densities by regex, `minimum` is a count for each leaf.
    """
    density = check_density("density", density)
    minimum = check_minimum(minimum)
    chosen, stack = filters.only(params, where), _stacked.read(stacked)
    leaves = leaves_of(chosen, stack)
    sizes = np.array([leaf.size for leaf in leaves], np.int64)
    budget = round(density * int(sizes.sum()))
    held = np.maximum(_least_counts(leaves, least), np.minimum(minimum, sizes))
    check_affordable(density, budget, held, minimum=minimum, least=least)
    weights = np.array([raw(leaf.shape) for leaf in leaves], np.float64)
    return fill(chosen, ratios(spend(weights, sizes, held, budget), sizes), stack)


def spend(raw: np.ndarray, sizes: np.ndarray, least: np.ndarray, budget: int) -> np.ndarray:
    """Return whole counts with the sum `budget`, near eps · raw · size for one eps, between `least` and `sizes`.

    No leaf is left without a weight if the budget has one for each. Remainders go to the largest, ties to the first.
    """
    occupied = np.maximum(least, np.minimum(sizes, 1))
    low = occupied if occupied.sum() <= budget else least
    # A raw share of 0 gets the rest when all others are full.
    positive = np.maximum(raw / max(raw.max(initial=0), _SMALLEST), _SMALLEST)
    wishes = _pour(positive * sizes, low, sizes, budget)
    counts = np.clip(np.floor(wishes), low, sizes).astype(np.int64)
    remainders = np.round(wishes - counts, 9)  # equal shares differ by rounding of floats only
    by_remainder = np.argsort(-remainders, kind="stable")
    missing = budget - int(counts.sum())
    counts[by_remainder[counts[by_remainder] < sizes[by_remainder]][:missing]] += 1
    return counts


def _pour(shares: np.ndarray, low: np.ndarray, high: np.ndarray, budget: int) -> np.ndarray:
    """Return real counts clip(eps · shares, low, high) with the sum `budget`, which is piecewise linear in eps."""
    rising = shares > 0
    bends = np.concatenate([[0.0], *(bound[rising] / shares[rising] for bound in (low, high))])
    bends = np.unique(bends)  # layers of one leaf bend alike
    totals = [np.clip(eps * shares, low, high).sum() for eps in bends]
    return np.clip(np.interp(budget, totals, bends) * shares, low, high)


def _least_counts(leaves: Sequence[Leaf], least: Mapping[str, float]) -> np.ndarray:
    counts = np.zeros(len(leaves), np.int64)
    for regex, density in least.items():
        pattern = _tree.compile_regex("dense", regex)
        matches = [i for i, leaf in enumerate(leaves) if pattern.search(leaf.name)]
        if leaves and not matches:
            raise NoMatchError(
                f"{regex!r} matches no sparsified leaf; leaves: {list(dict.fromkeys(leaf.name for leaf in leaves))}"
            )
        for i in matches:
            counts[i] = max(counts[i], round(density * leaves[i].size))
    return counts


def leaves_of(chosen: PyTree, stack: Stack) -> list[Leaf]:
    """Return the leaves that are sparsified, in tree order; of a stacked leaf its layers."""
    check_arrays("params", chosen)
    columns = zip(_tree.leaves(_tree.names(chosen)), _tree.leaves(chosen), stack.axes(chosen), strict=True)
    leaves = []
    for name, x, axes in columns:
        if x is not None:
            shape = _stacked.slice_shape(x.shape, axes)
            leaves += [Leaf(name, shape, math.prod(shape))] * _stacked.count_slices(x.shape, axes)
    return leaves


def fill(chosen: PyTree, values: Sequence[Any], stack: Stack) -> PyTree:
    """Return `chosen` with its leaves, in order, replaced by `values`; None stays None.

    A stacked leaf takes a value for each of its layers, as a float64 array that broadcasts to it; None if all are None.
    """
    remaining, axes = iter(values), iter(stack.axes(chosen))

    def take(x: Any) -> Any:
        stacked = next(axes)
        if x is None or not stacked:
            return None if x is None else next(remaining)
        layers = list(itertools.islice(remaining, _stacked.count_slices(x.shape, stacked)))
        if None in layers:
            return None
        return np.array(layers, np.float64).reshape(_stacked.stack_shape(x.shape, stacked))

    return _tree.tree_map(take, chosen)


def ratios(counts: np.ndarray, sizes: np.ndarray) -> list[float]:
    return [ratio(int(k), int(n)) for k, n in zip(counts, sizes, strict=True)]


def ratio(kept: int, size: int) -> float:
    return kept / size if size else 0.0


def check_density(name: str, value: Any) -> float:
    check_fraction(name, value)
    if isinstance(value, jax.core.Tracer):
        raise InputError(
            f"{name}={value} must be a number that is known now: shares are computed from shapes, on the host."
        )
    return float(value)


def check_minimum(minimum: int) -> int:
    if not isinstance(minimum, int) or minimum < 0:
        raise InputError(f"minimum={minimum!r} must be a count of weights, 0 or more.")
    return minimum
