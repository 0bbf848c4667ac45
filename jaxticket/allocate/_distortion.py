"""Densities by the change of the outputs: rate–distortion curves and dynamic programming."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _stacked, filters
from jaxticket._check_densities import check_affordable
from jaxticket._checks import check_count
from jaxticket.allocate._shares import (
    check_density,
    check_minimum,
    fill,
    leaves_of,
    ratios,
    spend,
)
from jaxticket.errors import InputError
from jaxticket.masks._apply import apply_mask
from jaxticket.scores._pointwise import magnitude
from jaxticket.selection._select import select
from jaxticket.typing import Filter, Params, PyTree, Stacked

Over = Literal["mean", "worst"]
BINS = 20_000  # of the budget, in which the dynamic program counts: its table takes leaves × BINS


def rate_distortion(
    params: Params,
    apply: Callable[[Params, PyTree], PyTree],
    inputs: PyTree,
    density: float,
    *,
    where: Filter | PyTree = filters.weights(),
    levels: int = 101,
    minimum: int = 0,
    over: Over = "mean",
    stacked: Stacked | None = None,
) -> PyTree:
    """Return the densities that change the outputs least, if the changes of layers add up (Xu et al., 2023, RD
    pruning).

    Each leaf in turn is pruned by magnitude to each of `levels` even densities, and the squared change of the outputs
    recorded. A dynamic program then picks the levels of the least sum within the budget. The rest of the budget
    goes to all leaves in proportion. One compiled program measures everything, leaves · levels times.

    Args:
      params: pytree of arrays.
      apply: (params, inputs) -> outputs, logits rather than probabilities, in evaluation mode.
      inputs: one calibration batch; noise will do (the paper's zero-data variant).
      density: the fraction kept of all weights that `where` chooses.
      where: the leaves that are sparsified.
      levels: the number of densities measured for each leaf.
      minimum: the number of weights that every leaf keeps.
      over: "mean" takes the mean change over examples, "worst" the largest, as all commands of the authors do. Examples
        are the first axis of all outputs. The worst of few examples is noisy.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      Densities like those of `uniform`.

    Raises:
      InputError: another `over`, a call under jit, levels too coarse for the density (they must differ by no more than
        it), a density less than the minima hold, or outputs that are not finite.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"a": jnp.array([[4.0, 3.0]]), "b": jnp.array([[2.0, 1.0]])}
      >>> apply = lambda params, x: x * jnp.concatenate([params["a"], params["b"]], 1)
      >>> rate_distortion(params, apply, jnp.ones((1, 4)), 0.75, where=filters.everything())
      {'a': 1.0, 'b': 0.5}
    """
    if over not in ("mean", "worst"):
        raise InputError(f"over={over!r} must be 'mean' or 'worst': of the examples.")
    density, minimum = check_density("density", density), check_minimum(minimum)
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((params, inputs))):
        raise InputError(
            "params or inputs are traced; rate_distortion measures, so call it outside jit, vmap and grad."
        )
    check_count(2, levels=levels)
    if density and (levels - 1) * density < 1:
        raise InputError(f"levels={levels} are too coarse for density={density}; pass at least {int(1 / density) + 2}.")
    chosen, stack = filters.only(params, where), _stacked.read(stacked)
    sizes = np.array([leaf.size for leaf in leaves_of(chosen, stack)], np.int64)
    budget = round(density * int(sizes.sum()))
    least = np.minimum(minimum, sizes)
    check_affordable(density, budget, least, minimum=minimum)
    counts = [np.rint(np.linspace(0, 1, levels) * n).astype(np.int64) for n in sizes]
    counts = [np.maximum(of_leaf, low) for of_leaf, low in zip(counts, least, strict=True)]
    curves = distortions(params, apply, inputs, counts, where=where, over=over, stacked=stacked)
    picked = cheapest(curves, counts, budget)
    kept = np.array([of_leaf[i] for of_leaf, i in zip(counts, picked, strict=True)])
    spent = spend(kept / np.maximum(sizes, 1), sizes, np.maximum(kept, least), budget)
    return fill(chosen, ratios(spent, sizes), stack)


def distortions(
    params: Params,
    apply: Callable[[Params, PyTree], PyTree],
    inputs: PyTree,
    counts: Sequence[np.ndarray],
    *,
    where: Filter | PyTree = filters.weights(),
    over: Over = "mean",
    stacked: Stacked | None = None,
) -> list[np.ndarray]:
    """Return, for each leaf, the squared change of the outputs when it alone is pruned to each of its counts."""
    chosen, stack = filters.only(params, where), _stacked.read(stacked)
    sizes = [leaf.size for leaf in leaves_of(chosen, stack)]
    change = output_change(params, apply, inputs, where=where, over=over, stacked=stacked)
    curves = []
    for i, (of_leaf, size) in enumerate(zip(counts, sizes, strict=True)):
        alone = lambda k: fill(chosen, [float(k) / size if j == i and size else 1.0 for j in range(len(sizes))], stack)
        # Read back once a leaf, so that the device is kept busy.
        curves.append(np.array(jax.device_get([change(alone(k)) for k in of_leaf]), np.float64))
        if not np.isfinite(curves[-1]).all():
            raise InputError("apply gives outputs that are not finite; check params and inputs, and give it logits.")
    return curves


def output_change(
    params: Params,
    apply: Callable[[Params, PyTree], PyTree],
    inputs: PyTree,
    *,
    where: Filter | PyTree = filters.weights(),
    over: Over = "mean",
    stacked: Stacked | None = None,
) -> Callable[[PyTree], jax.Array]:
    """Return densities -> squared change of the outputs under pruning by magnitude to them; compiled once."""
    dense = jax.jit(apply)(params, inputs)

    @jax.jit
    def change(params: Params, inputs: PyTree, dense: PyTree, densities: PyTree) -> jax.Array:
        mask = select(magnitude(filters.only(params, where)), densities, stacked=stacked)
        pruned = apply(apply_mask(params, mask), inputs)
        kept = 1 if over == "worst" else 0  # the examples' axis
        squares = jax.tree.map(
            lambda a, b: jnp.sum(jnp.square((a - b).astype(jnp.float32)), range(kept, a.ndim)), pruned, dense
        )
        return jnp.max(sum(jax.tree.leaves(squares)) / sum(math.prod(y.shape[kept:]) for y in jax.tree.leaves(dense)))

    # Arguments, since arrays that a compiled function closes over become constants of the program.
    return functools.partial(change, params, inputs, dense)


def cheapest(curves: Sequence[np.ndarray], counts: Sequence[np.ndarray], budget: int) -> list[int]:
    """Choose one level a leaf with the least sum of `curves` among those whose counts sum to at most `budget`.

    The choice is exact if the budget is at most BINS. Beyond, counts are rounded up to whole bins, so that the budget
    is never exceeded. Of equal sums it takes the fewest weights of the last leaves.
    """
    width = max(1, -(-budget // BINS))
    bins = budget // width
    best = np.zeros(bins + 1)  # best[b]: least distortion of the leaves so far within b bins
    choices = []
    for curve, kept in zip(curves, counts, strict=True):
        extended, choice = np.full(bins + 1, np.inf), np.zeros(bins + 1, np.int32)
        for level, cost in enumerate(-(-kept // width)):
            if cost > bins:
                continue
            total = curve[level] + best[: bins + 1 - cost]
            better = total < extended[cost:]
            extended[cost:][better] = total[better]
            choice[cost:][better] = level
        best = extended
        choices.append(choice)
    picked, left = [], bins
    for choice, kept in zip(reversed(choices), reversed(counts), strict=True):
        level = int(choice[left])
        left -= int(-(-kept[level] // width))
        picked.append(level)
    return picked[::-1]
