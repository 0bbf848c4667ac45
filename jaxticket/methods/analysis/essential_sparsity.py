"""Essential sparsity: the part of a pretrained model that one-shot pruning removes almost for free."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxticket import filters
from jaxticket.errors import InputError
from jaxticket.loops._level import PruneFn
from jaxticket.masks import apply_mask
from jaxticket.typing import Density, Filter, Key, Mask, Params

__all__ = ["Knee", "Pruned", "knee", "sweep"]


class Pruned(NamedTuple):
    """A model after one-shot pruning: the density asked for, its mask and its quality."""

    density: Density
    mask: Mask
    quality: jax.Array


class Knee(NamedTuple):
    """The points at which a curve of quality over sparsity breaks; both are sparsities.

    Attributes:
      essential: the largest sparsity up to which the quality stays within the drop allowed.
      sharpest: the sparsity at which the curve bends down most.
    """

    essential: float
    sharpest: float


def sweep(
    params: Params,
    quality: Callable[[Params], jax.Array],
    *,
    prune: PruneFn,
    densities: Sequence[Density],
    where: Filter,
    key: Key,
) -> Iterator[Pruned]:
    """Prune the same parameters to each density at once, without training, and measure their quality.

    After Jaiswal et al., "The Emergence of Essential Sparsity in Large Pre-trained Models" (2023). `quality` compiles
    once for all densities.

    Args:
      params: the pretrained parameters.
      quality: params -> scalar or array.
      prune: the pruning function, as `loops.prune_by` makes it.
      densities: the fractions to keep.
      where: the leaves to prune, in the paper the matrices of the blocks and not the embeddings.
      key: a typed PRNG key, for random pruning.

    Yields:
      Pruned(density, mask, quality) for each density.

    Raises:
      NoMatchError: `where` matches nothing.
      InputError: no densities.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import filters, loops
      >>> params = {"w": jnp.array([4.0, 3.0, 2.0, 1.0])}
      >>> options = {"prune": loops.prune_by(), "where": filters.everything(), "key": jax.random.key(0)}
      >>> [float(p.quality) for p in sweep(params, lambda p: p["w"].sum(), densities=[1.0, 0.5], **options)]
      [10.0, 7.0]
    """
    if not len(densities):
        raise InputError("densities is empty; give at least one, such as 1.0")
    dense = filters.full_mask(params, where)
    return _points(params, quality, dense, prune, densities, key)


def knee(sparsities: Sequence[float], qualities: Sequence[float], *, drop: float = 0.01) -> Knee:
    """Return the essential sparsity of a curve, and its sharpest bend (Jaiswal et al., 2023).

    Args:
      sparsities: the sparsities, rising from 0.
      qualities: the quality at each.
      drop: the part of the dense quality that may be lost.

    Returns:
      The two sparsities.

    Raises:
      InputError: fewer than three points, or sparsities that do not rise from 0.

    Examples:
      >>> knee([0.0, 0.2, 0.4, 0.6, 0.8], [1.0, 1.0, 0.995, 0.9, 0.2])
      Knee(essential=0.4, sharpest=0.6)
    """
    s, q = np.asarray(sparsities, float), np.asarray(qualities, float)
    if s.shape != q.shape or s.size < 3 or s[0] != 0 or (np.diff(s) <= 0).any():
        raise InputError(f"sparsities={list(sparsities)} must rise from 0, three or more, with a quality for each")
    lost = np.flatnonzero(q < q[0] - drop * abs(q[0]))
    essential = s[-1] if lost.size == 0 else s[lost[0] - 1]
    slopes = np.diff(q) / np.diff(s)
    return Knee(float(essential), float(s[1:-1][np.argmin(np.diff(slopes))]))


def _points(
    params: Params,
    quality: Callable[[Params], jax.Array],
    dense: Mask,
    prune: PruneFn,
    densities: Sequence[Density],
    key: Key,
) -> Iterator[Pruned]:
    measured = jax.jit(lambda params, mask: quality(apply_mask(params, mask)))
    pruned = functools.partial(prune, params, dense, key=key)
    for density in densities:
        mask = pruned(density)
        yield Pruned(density, mask, measured(params, mask))
