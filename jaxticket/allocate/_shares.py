"""Shares of a budget of weights: whole counts with an exact sum, between a least and the size of each leaf."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxticket import _tree, filters
from jaxticket._check_trees import check_arrays
from jaxticket._checks import check_affordable, check_fraction
from jaxticket.errors import InputError, NoMatchError
from jaxticket.typing import Filter, Params, PyTree

_SMALLEST = 1e-200  # of raw shares, relative to the largest: products with any size stay far from the ends of float64


class Leaf(NamedTuple):
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
) -> PyTree:
    """Return densities in proportion to raw(shape), within the bounds of each leaf, that spend the whole budget.

    `least` are densities by regex, `minimum` is a count for each leaf.
    """
    density = check_density("density", density)
    minimum = check_minimum(minimum)
    chosen = filters.only(params, where)
    leaves = leaves_of(chosen)
    sizes = np.array([leaf.size for leaf in leaves], np.int64)
    budget = round(density * int(sizes.sum()))
    held = np.maximum(_least_counts(leaves, least), np.minimum(minimum, sizes))
    check_affordable(density, budget, held, minimum=minimum, least=least)
    weights = np.array([raw(leaf.shape) for leaf in leaves], np.float64)
    return fill(chosen, ratios(spend(weights, sizes, held, budget), sizes))


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
    bends.sort()
    totals = [np.clip(eps * shares, low, high).sum() for eps in bends]
    return np.clip(np.interp(budget, totals, bends) * shares, low, high)


def _least_counts(leaves: Sequence[Leaf], least: Mapping[str, float]) -> np.ndarray:
    counts = np.zeros(len(leaves), np.int64)
    for regex, density in least.items():
        pattern = _tree.compile_regex("dense", regex)
        matches = [i for i, leaf in enumerate(leaves) if pattern.search(leaf.name)]
        if leaves and not matches:
            raise NoMatchError(f"{regex!r} matches no sparsified leaf; leaves: {[leaf.name for leaf in leaves]}")
        for i in matches:
            counts[i] = max(counts[i], round(density * leaves[i].size))
    return counts


def leaves_of(chosen: PyTree) -> list[Leaf]:
    """Return the leaves that are sparsified, in tree order."""
    check_arrays("params", chosen)
    pairs = zip(_tree.leaves(_tree.names(chosen)), _tree.leaves(chosen), strict=True)
    return [Leaf(name, tuple(x.shape), math.prod(x.shape)) for name, x in pairs if x is not None]


def fill(chosen: PyTree, values: Sequence[Any]) -> PyTree:
    """Return `chosen` with its leaves, in order, replaced by `values`; None stays None."""
    remaining = iter(values)
    return _tree.map_present(lambda _: next(remaining), chosen)


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
