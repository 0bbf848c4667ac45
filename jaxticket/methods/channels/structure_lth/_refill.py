"""Refilling: the output channels that kept most weights become whole, and the others go."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxticket import _tree, loops, masks, units
from jaxticket._check_trees import check_mask, check_structure
from jaxticket._checks import check_fraction
from jaxticket.errors import InputError, StructureError
from jaxticket.loops import PruneFn
from jaxticket.selection import select
from jaxticket.typing import Density, Key, Mask, Params, Scores


def refill(mask: Mask, *, rate: float = 0.0, scores: Scores | None = None) -> Mask:
    """Return the mask of the whole output channels that hold as many weights as the mask keeps, rounded down.

    Of C channels, with n = kept weights / weights of a channel, it keeps int(n + (C − n) · rate), at least one: those
    of the highest scores. A rate of 0 is the paper's IMP-Refill, and one above 0 its IMP-Refill+. Of equal scores the
    lower channel stays. It compiles under jit.

    The authors' code keeps one channel more, one among equal scores at random, and leaves others among these as they
    are. Each layer is refilled alone. Where the outputs of layers are summed, as in residual networks, channels that
    any of them keeps must stay in a smaller network.

    Args:
      mask: a mask whose leaves have two axes or more, output channels last. None leaves stay None: the paper leaves out
        the first convolution and the last dense layer.
      rate: the part of the missing channels to fill.
      scores: pytree with an array for each leaf of the mask, summed over each channel; by default the mask itself. The
        paper's "magnitude" is |w| of trained weights. In the place of its sums over feature maps stand
        `scores.mean_activation`, `scores.activation_norm` and `scores.activation_taylor`.

    Returns:
      A mask whose leaves have size 1 on all axes but the last.

    Raises:
      InputError: a mask that is not bool or has leaves of fewer axes, or a rate outside [0, 1].
      StructureError: scores of another structure.

    Examples:
      >>> import jax.numpy as jnp
      >>> mask = jnp.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], bool).T  # inputs × outputs
      >>> refill({"kernel": mask})["kernel"]
      Array([[ True, False,  True, False]], dtype=bool)
      >>> refill({"kernel": mask}, rate=0.5)["kernel"]
      Array([[ True, False,  True,  True]], dtype=bool)
    """
    check_layers(mask)
    check_fraction("rate", rate)
    if scores is None:
        scores = _tree.map_present(lambda m: m.astype(jnp.float32), mask)
    scores = _tree.tree_map(_score_of, _tree.names(mask), mask, check_structure("scores", scores, "mask", mask))
    density = _tree.map_present(lambda m: _filled(m, rate) / m.shape[-1], mask)
    return select(scores, density, unit=units.axis(-1, reduce=units.total))


def in_each_round(coarsen: Callable[[Mask], Mask], *, rate: float = 0.2, prune: PruneFn | None = None) -> PruneFn:
    """Return a pruning for `imp` that makes the mask of each round coarse, as the authors' loops do.

    The next round prunes a part of what the coarse mask keeps. The densities of `imp` then only count its rounds.

    Args:
      coarsen: mask -> mask, such as `refill` or `regroup`.
      rate: the part of the weights that a round prunes, of those that are kept.
      prune: chooses the survivors; by default `loops.prune_by()`, the largest weights of all layers.

    Returns:
      A pruning function.

    Raises:
      InputError: a rate outside [0, 1].

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> params = {"kernel": jnp.array([[9.0, 1.0, 5.0, 8.0], [7.0, 2.0, 6.0, 3.0]])}
      >>> prune = in_each_round(refill, rate=0.25)
      >>> mask = prune(params, {"kernel": jnp.ones((2, 4), bool)}, 0.75, key=jax.random.key(0))
      >>> mask["kernel"]
      Array([[ True, False,  True,  True]], dtype=bool)
    """
    check_fraction("rate", rate)
    survivors = loops.prune_by() if prune is None else prune

    def prune_and_coarsen(params: Params, mask: Mask, density: Density, *, key: Key) -> Mask:
        left = (1 - rate) * masks.density(params, mask)
        return coarsen(survivors(params, mask, left, key=key))

    return prune_and_coarsen


def check_layers(mask: Mask) -> None:
    """Raise InputError for a mask that is not bool, or with leaves that have no inputs and outputs."""
    check_mask("mask", mask)
    for name, leaf in zip(_tree.leaves(_tree.names(mask)), _tree.leaves(mask), strict=True):
        if leaf is not None and (leaf.ndim < 2 or 0 in leaf.shape):
            raise InputError(f"mask at {name!r} has shape {leaf.shape}; leave out (None) what is not a kernel.")


def _score_of(name: str, mask: jax.Array | None, scores: jax.Array | None) -> jax.Array | None:
    """Return the scores of a layer; raise StructureError where they have other channels than its mask."""
    if mask is not None and (scores is None or scores.shape[-1:] != mask.shape[-1:]):
        kind = "nothing" if scores is None else f"shape {scores.shape}"
        raise StructureError(f"scores at {name!r} have {kind}, and the mask shape {mask.shape}; score each channel.")
    return None if mask is None else scores


def _filled(mask: jax.Array, rate: float) -> jax.Array:
    """Return the number of channels that a layer keeps."""
    channels = mask.shape[-1]
    size = mask.size // channels
    kept = jnp.sum(mask, dtype=jnp.int32)
    whole, rest = kept // size, (kept % size) / size  # apart, since floats of large counts would be rounded
    more = (channels - whole - rest) * rate
    return jnp.maximum(1, whole + jnp.floor(rest + more).astype(jnp.int32))
