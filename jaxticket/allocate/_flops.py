"""Densities within a budget of multiplications."""

import math
from collections.abc import Callable, Mapping

import jax
import numpy as np

from jaxticket import _stacked, _tree, filters
from jaxticket._stacked import Stack
from jaxticket.allocate._shapes import uniform
from jaxticket.allocate._shares import check_density, leaves_of
from jaxticket.errors import InputError
from jaxticket.typing import Filter, Params, PyTree, Stacked


def for_flops(
    params: Params,
    fraction: float,
    *,
    allocate: Callable[..., PyTree] = uniform,
    positions: Mapping[str, int] | None = None,
    where: Filter | PyTree = filters.weights(),
    stacked: Stacked | None = None,
) -> PyTree:
    """Return the largest densities of an allocation that cost at most `fraction` of the dense FLOPs.

    The result can be the `allocate=` of a mask transform, whose density then counts FLOPs.

    Args:
      params: pytree of which only shapes are read.
      fraction: of the FLOPs of the leaves that `where` chooses, each counted as weights × output positions, as
        `diagnostics.flops` counts them. Nothing else is counted.
      allocate: (params, density, *, where) -> densities, such as `uniform` or `erk`; its density is searched. It gets
        `stacked` too where that is given.
      positions: regex on path names -> output positions of the layer (height × width); 1 where no rule decides.
      where: the leaves that are sparsified.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      Densities like those of `uniform`.

    Raises:
      InputError: a fraction outside [0, 1], positions below 1, or a fraction that even the least allocation exceeds.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket.allocate import erk
      >>> params = {"conv": {"kernel": jnp.ones((3, 3, 1, 4))}, "output": {"kernel": jnp.ones((4, 10))}}
      >>> for_flops(params, 0.5, allocate=erk, positions={"conv": 100})
      {'conv': {'kernel': 0.47...}, 'output': {'kernel': 0.55}}
    """
    fraction = check_density("fraction", fraction)
    chosen, stack = filters.only(params, where), _stacked.read(stacked)
    total = sum(leaf.size for leaf in leaves_of(chosen, stack))
    costs = _costs(params, chosen, stack, positions or {})
    affordable = fraction * costs.sum() * (1 + 1e-12)  # the product is rounded: 0.29 · 100 must afford 29
    declared = {} if stacked is None else {"stacked": stacked}

    def densities_of(kept: int) -> PyTree:
        return allocate(params, kept / total if total else 0.0, where=where, **declared)

    def fits(kept: int) -> bool:
        try:
            densities = [np.ravel(d) for d in jax.tree.leaves(densities_of(kept))]
        except InputError:  # the allocation needs more for its dense leaves and minima
            return True
        return float(np.dot(np.concatenate([[], *densities]), costs)) <= affordable

    low, high = 0, total  # bisection over whole budgets of weights: low fits, high + 1 does not
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    try:
        return densities_of(low)
    except InputError as error:
        raise InputError(f"fraction={fraction} affords {low} weights, which the allocation refuses: {error}") from error


def _costs(params: Params, chosen: PyTree, stack: Stack, positions: Mapping[str, int]) -> np.ndarray:
    """Return the number of multiplications of each leaf (or layer) that is sparsified, when it is dense."""
    for regex, count in positions.items():
        if count < 1:
            raise InputError(f"positions[{regex!r}]={count} must be at least 1")
    resolved = _tree.leaves(_tree.resolve(positions, params, default=1))
    costs: list[float] = []
    for x, count, axes in zip(_tree.leaves(chosen), resolved, stack.axes(chosen), strict=True):
        if x is not None:
            layers = _stacked.count_slices(x.shape, axes)
            costs += [float(math.prod(x.shape) // max(layers, 1) * count)] * layers
    return np.array(costs, np.float64)
