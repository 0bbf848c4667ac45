"""Channels that are dropped together, from masks that leaves chose for themselves."""

from collections.abc import Sequence

import numpy as np

from jaxticket import _tree
from jaxticket._check_trees import check_mask
from jaxticket.errors import NoMatchError
from jaxticket.structure._channels import dead_entries
from jaxticket.structure._groups import Groups, Member
from jaxticket.structure._owners import owners
from jaxticket.typing import Mask


def vote(mask: Mask, groups: Groups) -> dict[str, np.ndarray]:
    """Return which channels stay, from masks of single leaves that may disagree within a group (MaskSparsity).

    Each leaf of a group has one vote for each channel that it drops, as the scales of the norms of a stream do.
    The channels with at least i votes go, for the largest i at which as many go as the most careful leaf drops. So the
    scales that network slimming or MaskSparsity made small become a smaller network:

        kept = structure.vote(transforms.scales_to_keep(variables["params"]), groups)
        smaller = structure.shrink(variables, kept, groups)

    The shifts of dropped channels still reach the next layer, so the smaller network is another one: train it further.
    Where all channels of a group would go, the first of those with the fewest votes stays; the authors' code fails.

    Args:
      mask: a mask of the traced variables, or of a part of them; None leaves do not vote. What drops entries that lie
        in no group is left alone.
      groups: the groups of the variables.

    Returns:
      name of a group -> bool of shape (width,), for all groups; True where no leaf votes.

    Raises:
      InputError: a leaf that is not of bool, was not traced, or has another shape.
      NoMatchError: no leaf of the mask lies in a group.

    References:
      Jiang et al. (2021), Pruning-aware Sparse Regularization for Network Pruning; CASIA-IVA-Lab/MaskSparsity@2827de4.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import structure
      >>> params = {"a": jnp.ones((2, 4)), "scale1": jnp.ones(4), "scale2": jnp.ones(4), "b": jnp.ones((4, 2))}
      >>> apply = lambda p, x: (x @ p["a"] * p["scale1"][None] * p["scale2"][None]) @ p["b"]
      >>> groups = structure.trace(apply, params, jnp.ones((1, 2)))
      >>> scales = {"scale1": jnp.array([False, False, True, True]), "scale2": jnp.array([False, True, True, True])}
      >>> structure.vote(scales | {"a": None, "b": None}, groups)
      {'a:1': array([False,  True,  True,  True])}
    """
    check_mask("mask", mask)
    shapes = {leaf.path: leaf.shape for leaf in groups.leaves}
    paths = owners("mask", mask, shapes)
    dead = {
        path: dead_entries(np.broadcast_to(np.asarray(leaf), shapes[path]))
        for path, leaf in zip(paths, _tree.leaves(mask), strict=True)
        if path is not None
    }
    ballots = {g.name: [_dropped(m, dead[m.path]) for m in g.members if m.path in dead] for g in groups}
    if not any(ballots.values()):
        raise NoMatchError(f"mask: none of {', '.join(dead) or 'no leaves'} is a member of a group")
    return {g.name: _count(ballots[g.name]) if ballots[g.name] else np.ones(g.width, bool) for g in groups}


def _dropped(member: Member, dead: Sequence[np.ndarray]) -> np.ndarray:
    return dead[member.axis][np.array(member.positions)].all(axis=1)


def _count(ballots: Sequence[np.ndarray]) -> np.ndarray:
    """Return which channels stay after a vote: (width,) of bool."""
    votes, least = np.sum(ballots, axis=0), min(ballot.sum() for ballot in ballots)
    needed = next(i for i in range(len(ballots), 0, -1) if (votes >= i).sum() >= least)
    kept = votes < needed
    if not kept.any():
        kept[votes.argmin()] = True
    return kept
