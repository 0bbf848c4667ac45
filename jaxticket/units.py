"""The unit of pruning: weights that live or die together.

A unit pools scores (one entry a unit), expands a mask of units back to one that broadcasts to the parameters, and
returns the cost of each unit. Units work on whole trees, so that a unit may span leaves. `reduce` turns the scores of a
unit's weights into one: `mean`, `total`, `largest` or `l2`, always accumulated in float32 at least.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._checks import check_axis, check_count
from jaxticket.errors import InputError
from jaxticket.typing import Mask, PyTree, Scores

__all__ = [
    "Reduce",
    "Unit",
    "axis",
    "block",
    "element",
    "heads",
    "l2",
    "largest",
    "leaf",
    "mean",
    "normalise_axis",
    "total",
]

Reduce = Callable[[jax.Array, tuple[int, ...], jax.Array | None], jax.Array]


def mean(x: jax.Array, axes: tuple[int, ...], where: jax.Array | None = None) -> jax.Array:
    """Return the mean score of each unit, which does not depend on its size (the default).

    Args:
      x: the scores of weights.
      axes: the axes over which a unit extends; they stay with size 1.
      where: the entries that count; None for all.

    Returns:
      One score a unit.
    """
    return jnp.mean(x, axes, keepdims=True, where=where)


def total(x: jax.Array, axes: tuple[int, ...], where: jax.Array | None = None) -> jax.Array:
    """Return the sum of each unit's scores; for magnitudes it is the l1 norm (Li et al., 2017).

    Args:
      x: the scores of weights.
      axes: the axes over which a unit extends; they stay with size 1.
      where: the entries that count; None for all.

    Returns:
      One score a unit.
    """
    return jnp.sum(x, axes, keepdims=True, where=where)


def largest(x: jax.Array, axes: tuple[int, ...], where: jax.Array | None = None) -> jax.Array:
    """Return the largest score of each unit.

    Args:
      x: the scores of weights.
      axes: the axes over which a unit extends; they stay with size 1.
      where: the entries that count; None for all.

    Returns:
      One score a unit.
    """
    return jnp.max(x, axes, keepdims=True, where=where, initial=-jnp.inf)


def l2(x: jax.Array, axes: tuple[int, ...], where: jax.Array | None = None) -> jax.Array:
    """Return the Euclidean norm of each unit's scores.

    Args:
      x: the scores of weights.
      axes: the axes over which a unit extends; they stay with size 1.
      where: the entries that count; None for all.

    Returns:
      One score a unit.
    """
    return jnp.sqrt(jnp.sum(jnp.square(x), axes, keepdims=True, where=where))


class Unit(Protocol):
    """The interface that `select` uses. Implementations are hashable, because they are static under jit."""

    def pool(self, scores: Scores) -> Scores:
        """Return one score a unit; each leaf has the shape of its units."""

    def expand(self, mask: Mask, like: Scores) -> Mask:
        """Return the mask over weights of a mask over units; leaves broadcast to those of `like`."""

    def pool_mask(self, mask: Mask) -> Mask:
        """Mark the units that hold at least one weight that is alive in a mask of the weights' full shape."""

    def cost(self, tree: PyTree) -> PyTree:
        """Return the number of weights of each unit: float32, in the shape of the pooled scores."""


class _PerLeaf:
    """A unit within one leaf, given by a way to pool and a way to expand one array with `reduce`."""

    reduce: Reduce

    def _pool(self, x: jax.Array, reduce: Reduce) -> jax.Array:
        raise NotImplementedError

    def _expand(self, kept: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return kept

    def pool(self, scores: Scores) -> Scores:
        return _tree.map_present(lambda s: self._pool(_accumulable(s), self.reduce), scores)

    def expand(self, mask: Mask, like: Scores) -> Mask:
        return _tree.map_present(lambda m, s: self._expand(m, s.shape), mask, like)

    def pool_mask(self, mask: Mask) -> Mask:
        return _tree.map_present(lambda m: self._pool(m.astype(jnp.float32), largest) > 0, mask)

    def cost(self, tree: PyTree) -> PyTree:
        return _tree.map_present(lambda x: self._pool(jnp.ones(x.shape, jnp.float32), total), tree)


@dataclasses.dataclass(frozen=True)
class _Element(_PerLeaf):
    def pool(self, scores: Scores) -> Scores:
        return scores

    def pool_mask(self, mask: Mask) -> Mask:
        return mask

    def cost(self, tree: PyTree) -> PyTree:
        return _tree.map_present(lambda x: jnp.ones(x.shape, jnp.float32), tree)


@dataclasses.dataclass(frozen=True)
class _Axis(_PerLeaf):
    axis: int
    reduce: Reduce

    def _pool(self, x: jax.Array, reduce: Reduce) -> jax.Array:
        kept = normalise_axis(self.axis, x.shape, "units.axis")
        return reduce(x, tuple(a for a in range(x.ndim) if a != kept), None)


@dataclasses.dataclass(frozen=True)
class _Heads(_PerLeaf):
    count: int
    axis: int
    reduce: Reduce

    def _pool(self, x: jax.Array, reduce: Reduce) -> jax.Array:
        axis = normalise_axis(self.axis, x.shape, "units.heads")
        if self.count > x.shape[axis] or x.shape[axis] % self.count:
            raise InputError(
                f"units.heads(count={self.count}, axis={self.axis}) does not divide a leaf of shape {x.shape}; "
                "pass the model's number of heads, and the axis on which they lie side by side."
            )
        split = x.reshape(*x.shape[:axis], self.count, x.shape[axis] // self.count, *x.shape[axis + 1 :])
        return reduce(split, tuple(a for a in range(split.ndim) if a != axis), None).squeeze(axis + 1)

    def _expand(self, kept: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        axis = normalise_axis(self.axis, shape, "units.heads")
        return _repeat(kept, axis, shape[axis] // self.count)


@dataclasses.dataclass(frozen=True)
class _Block(_PerLeaf):
    shape: tuple[int, ...]
    reduce: Reduce

    def _pool(self, x: jax.Array, reduce: Reduce) -> jax.Array:
        first = self._first_axis(x.shape)
        padding = [(0, 0)] * first + [(0, -n % b) for n, b in zip(x.shape[first:], self.shape, strict=True)]
        where = jnp.pad(jnp.ones(x.shape, bool), padding) if any(p for _, p in padding) else None
        inner = tuple(range(first + 1, first + 2 * len(self.shape), 2))
        tiles = self._tiles(jnp.pad(x, padding), first)
        return reduce(tiles, inner, None if where is None else self._tiles(where, first)).squeeze(inner)

    def _tiles(self, x: jax.Array, first: int) -> jax.Array:
        """Split each axis in two, axis by axis: the types of arrays on Explicit meshes follow no other split."""
        for axis, b in reversed([*enumerate(self.shape, first)]):
            x = x.reshape(*x.shape[:axis], x.shape[axis] // b, b, *x.shape[axis + 1 :])
        return x

    def _expand(self, kept: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        first = self._first_axis(shape)
        for axis, b in enumerate(self.shape, first):
            kept = jax.lax.slice_in_dim(_repeat(kept, axis, b), 0, shape[axis], axis=axis)
        return kept

    def _first_axis(self, shape: tuple[int, ...]) -> int:
        if len(shape) < len(self.shape):
            raise InputError(
                f"units.block{self.shape} does not fit a leaf of shape {shape}; choose leaves of at least "
                f"{len(self.shape)} axes with where=, or a block of fewer axes."
            )
        return len(shape) - len(self.shape)


@dataclasses.dataclass(frozen=True)
class _Leaf(_PerLeaf):
    reduce: Reduce

    def _pool(self, x: jax.Array, reduce: Reduce) -> jax.Array:
        return reduce(x, tuple(range(x.ndim)), None)


def element() -> Unit:
    """Prune each weight by itself: unstructured sparsity.

    Examples:
      >>> import jax.numpy as jnp
      >>> element().pool({"w": jnp.array([1.0, 2.0])})
      {'w': Array([1., 2.], dtype=float32)}
    """
    return _Element()


def axis(axis: int = -1, *, reduce: Reduce = mean) -> Unit:
    """Prune slices along one axis: output channels of flax kernels for −1, input channels for −2.

    The masks have size 1 on every other axis: a channel mask costs O(channels).

    Args:
      axis: the axis whose entries are the units.
      reduce: turns the scores of a unit's weights into one.

    Returns:
      A unit for `select`, which raises InputError for leaves without that axis.

    Raises:
      InputError: an axis that is not a whole number.

    Examples:
      >>> import jax.numpy as jnp
      >>> axis(-1, reduce=total).pool(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
      Array([[4., 6.]], dtype=float32)
    """
    check_axis("axis", axis)
    return _Axis(axis, reduce)


def block(*shape: int, reduce: Reduce = mean) -> Unit:
    """Prune tiles of the last axes: `block(4, 4)` tiles (in, out) of dense kernels, and of each tap of convolutions.

    Tiles at an edge may be smaller; their mean counts their own weights only.

    Args:
      *shape: the sizes of a tile along the last axes.
      reduce: turns the scores of a unit's weights into one.

    Returns:
      A unit for `select`, which raises InputError for leaves of fewer axes.

    Raises:
      InputError: sizes below 1, or none.

    Examples:
      >>> import jax.numpy as jnp
      >>> block(2, 2).pool(jnp.arange(6.0).reshape(2, 3))
      Array([[2. , 3.5]], dtype=float32)
    """
    for size in shape:
        check_count(0, shape=size)
    if not shape or any(b < 1 for b in shape):
        raise InputError(f"units.block{shape}: pass at least one size, each 1 or more, for example block(4, 4).")
    return _Block(shape, reduce)


def heads(count: int, *, axis: int = -1, reduce: Reduce = mean) -> Unit:
    """Prune attention heads that lie side by side on one axis, as in fused (embed, heads · head size) kernels.

    Where heads have an axis of their own, `units.axis` of that axis does the same.

    Args:
      count: the number of heads.
      axis: the axis on which they lie.
      reduce: turns the scores of a unit's weights into one.

    Returns:
      A unit for `select`, which raises InputError for leaves whose axis `count` does not divide.

    Raises:
      InputError: a count below 1, or an axis that is not a whole number.

    Examples:
      >>> import jax.numpy as jnp
      >>> heads(2).pool(jnp.array([[1.0, 3.0, 5.0, 7.0]]))
      Array([[2., 6.]], dtype=float32)
    """
    check_count(0, count=count)
    check_axis("axis", axis)
    if count < 1:
        raise InputError(f"units.heads(count={count}): pass the number of heads, 1 or more.")
    return _Heads(count, axis, reduce)


def leaf(*, reduce: Reduce = mean) -> Unit:
    """Prune each leaf as a whole (layer pruning, with `scopes.tree`).

    Examples:
      >>> import jax.numpy as jnp
      >>> leaf().pool(jnp.array([[1.0, 3.0]]))
      Array([[2.]], dtype=float32)
    """
    return _Leaf(reduce)


def normalise_axis(axis: int, shape: tuple[int, ...], name: str) -> int:
    """Return an axis counted from 0.

    Args:
      axis: the axis, negative if counted from the end.
      shape: the shape of the leaf.
      name: the function that the error message names.

    Returns:
      The axis, in 0 … len(shape) − 1.

    Raises:
      InputError: a shape without such an axis.
    """
    if not -len(shape) <= axis < len(shape):
        raise InputError(
            f"{name}: a leaf of shape {shape} has no axis {axis}; leave that leaf out with where=, or choose an "
            "axis that every leaf has."
        )
    return axis % len(shape)


def _accumulable(scores: jax.Array) -> jax.Array:
    return scores.astype(jnp.promote_types(scores.dtype, jnp.float32))


def _repeat(x: jax.Array, axis: int, times: int) -> jax.Array:
    """Repeat like jnp.repeat, but by broadcasting, which stays local on a sharded axis where a gather would not."""
    wide = jnp.broadcast_to(jnp.expand_dims(x, axis + 1), (*x.shape[: axis + 1], times, *x.shape[axis + 1 :]))
    return wide.reshape(*x.shape[:axis], math.prod(wide.shape[axis : axis + 2]), *x.shape[axis + 1 :])
