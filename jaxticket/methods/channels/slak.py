"""SLaK's training: random masks in the ratios of SNIP that regrow at random, in networks of very large kernels.

The network is `models.slak`, whose kernels `models.merge_kernels` merges after training.
"""

import jax
import jax.numpy as jnp

from jaxticket import _tree, allocate, filters, schedules, scopes, scores, transforms
from jaxticket._check_trees import check_alike, check_fits
from jaxticket._checks import check_count, check_fraction
from jaxticket.errors import InputError
from jaxticket.transforms import Plan
from jaxticket.typing import Filter, Mask, Params, PyTree, Scores

__all__ = ["average", "ratios", "slak"]

_DENSE = 0.99  # a leaf of this density or more is not sparsified
_LAST_FRACTION = 0.005  # to which the drop fraction falls


def ratios(params: Params, score: Scores, density: float = 0.6, *, where: Filter = filters.weights()) -> PyTree:
    """Return the density of each leaf: that of a global selection by these scores, or 1 from 0.99.

    A global selection has exactly the density; leaves that become dense add at most a hundredth of themselves. The
    authors' strict threshold keeps a weight less. With layer scales of 1e-6 the gradients of blocks are as small, so
    that the stem, the down-sampling and the output stay dense or nearly so, and the blocks bear the sparsity.

    Args:
      params: pytree of which only shapes are read.
      score: the scores of `scores.snip` of one batch at the first parameters.
      density: the fraction kept of all weights that `where` chooses.
      where: the leaves that are sparsified: all kernels of `models.slak`.

    Returns:
      Densities, as of `allocate.from_scores`.

    Raises:
      InputError: as `allocate.from_scores`.

    References:
      Liu et al., "More ConvNets in the 2020s: Scaling up Kernels Beyond 51 × 51 using Sparsity",
        2023, arXiv 2207.03620.

    Examples:
      >>> import jax.numpy as jnp
      >>> score = {"kernel": jnp.array([[5.0, 4.0, 3.0, 2.0, 1.0]])}
      >>> ratios(score, score, 0.4)
      {'kernel': 0.4}
    """
    shares = allocate.from_scores(params, score, density, where=where)
    return _tree.map_present(lambda share: 1.0 if share >= _DENSE else share, shares)


def slak(
    densities: PyTree, *, steps: int, every: int = 100, drop_fraction: float = 0.3, where: Filter = filters.weights()
) -> Plan:
    """Plan the training: random masks of these densities, whose smallest weights are replaced at random.

    The dropped part is rounded up, and falls by a cosine to 0.005 at the last step. A dropped weight may grow at once
    and then keeps its value. Needs `sparsify(..., key=)`. The authors' code differs in three points. It draws masks and
    grows by coin flips, so that the number of weights drifts; here it is exact. Under AdamW, though not under SGD, dead
    weights gather moments, with which they are born; here these are zero. And it exchanges once more after the last
    step, which no training follows.

    Args:
      densities: the density of each leaf, as `ratios` gives them.
      steps: the length of the training, in steps of the optimizer.
      every: steps between refreshes (SLaK-T: 2,000; S and B: 100).
      drop_fraction: the part of the mask that a refresh replaces at first (SLaK-T: 0.5; S and B: 0.3).
      where: the leaves that are sparsified.

    Returns:
      The plan.

    Raises:
      InputError: a drop_fraction outside [0.005, 1], or steps or every below 1.

    References:
      Liu et al., "More ConvNets in the 2020s: Scaling up Kernels Beyond 51 × 51 using Sparsity",
        2023, arXiv 2207.03620.

    Examples:
      >>> plan = slak({"kernel": 0.4}, steps=1000)
      >>> bool(plan.when(900)), bool(plan.when(950))
      (True, False)
    """
    check_count(1, steps=steps, every=every)
    check_fraction("drop_fraction", drop_fraction)
    if drop_fraction < _LAST_FRACTION:
        raise InputError(f"drop_fraction={drop_fraction} is below {_LAST_FRACTION}, to which it falls; pass 0.3 or so")
    fraction = schedules.cosine(drop_fraction, stop=steps, final=_LAST_FRACTION)
    first = transforms.start(scores.random, densities, scope=scopes.leaf(), where=where)
    evolve = transforms.regrow(scores.magnitude, scores.random, fraction, rounding="up")
    return Plan(transforms.chain(first, evolve), schedules.every(every, start=every))


def average(mean: Params, params: Params, mask: Mask, *, decay: float = 0.9999) -> Params:
    """Return the moving average of sparse weights, in which a weight that was just born has its value at once.

    Args:
      mean: the average so far; at first the parameters.
      params: the parameters after a step.
      mask: their mask, as of `mask_of`; leaves where it is None are averaged as they are.
      decay: the part of the average that stays.

    Returns:
      The next average, zero outside the mask.

    Raises:
      InputError: a decay outside [0, 1].
      StructureError: a mean or a mask that does not fit the parameters.

    References:
      Liu et al., "More ConvNets in the 2020s: Scaling up Kernels Beyond 51 × 51 using Sparsity",
        2023, arXiv 2207.03620.

    Examples:
      >>> import jax.numpy as jnp
      >>> old, new = {"w": jnp.array([0.5, 0.0])}, {"w": jnp.array([1.0, 2.0])}
      >>> average(old, new, {"w": jnp.array([True, True])}, decay=0.5)
      {'w': Array([0.75, 2.  ], dtype=float32)}
    """
    check_fraction("decay", decay)
    mask = check_fits(params, mask)
    mean = check_alike("mean", mean, "params", params)

    def step(old: jax.Array | None, new: jax.Array, kept: jax.Array | None) -> jax.Array | None:
        if old is None:
            return None
        mixed = decay * old + (1 - decay) * new
        return mixed if kept is None else jnp.where(kept, jnp.where(old == 0, new, mixed), 0)

    return _tree.tree_map(step, mean, params, mask)
