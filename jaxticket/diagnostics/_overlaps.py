"""The overlap of the masks of replicates."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from jaxticket import masks as masks_of
from jaxticket.errors import InputError
from jaxticket.typing import Mask, Params


class Overlap(NamedTuple):
    """The overlap of two masks.

    Attributes:
      pair: their positions among the masks given.
      iou: weights that both keep over weights that one of them keeps.
      chance: the expected ratio for random masks with the same counts in every leaf.
    """

    pair: tuple[int, int]
    iou: float
    chance: float


def overlaps(params: Params, masks: Sequence[Mask]) -> tuple[Overlap, ...]:
    """Return the intersection over union of each two masks, beside the ratio that chance gives at their leaves'
    densities.

    Chance draws the kept entries of each leaf at random, as many as before. Of n weights, j and k kept ones have j·k /
    n in common on average (hypergeometric), summed over the leaves and put into the same ratio. Pairs that share a mask
    are not independent: do not take an interval over them.

    Args:
      params: pytree that gives the shapes; weights are counted.
      masks: the masks to compare.

    Returns:
      An Overlap for each pair.

    Raises:
      InputError: fewer than two masks.
      StructureError: masks that do not fit the parameters or sparsify different leaves.

    Examples:
      >>> import jax.numpy as jnp
      >>> overlaps(jnp.ones(4), [jnp.array([True, True, False, False]), jnp.array([False, True, True, False])])
      (Overlap(pair=(0, 1), iou=0.333..., chance=0.333...),)
    """
    if len(masks) < 2:
        raise InputError(f"masks holds {len(masks)}; an overlap needs at least two")
    rows = [masks_of.summary(params, mask).rows for mask in masks]
    return tuple(
        Overlap((i, j), float(masks_of.iou(params, masks[i], masks[j])), _chance(rows[i], rows[j]))
        for i, j in itertools.combinations(range(len(masks)), 2)
    )


def _chance(a: Sequence[masks_of.Row], b: Sequence[masks_of.Row]) -> float:
    """Return the expected ratio, from counts as Python ints, which are exact for any number of weights."""
    leaves = [(x.kept, y.kept, x.size) for x, y in zip(a, b, strict=True) if x.density is not None and x.size]
    both = sum(j * k / n for j, k, n in leaves)
    either = sum(j + k for j, k, _ in leaves) - both
    return both / either if either else 1.0
