"""The interface of a unit, and the kinds of units within one leaf."""

import abc
import dataclasses
import math
from typing import Protocol

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._dtypes import wide
from jaxticket.errors import InputError
from jaxticket.typing import Mask, PyTree, Scores
from jaxticket.units._reduce import Reduce, largest, total


class Unit(Protocol):
    """The interface that `select` uses. Implementations are hashable, because they are static under jit.

    Units whose pooled scores have not the structure of the weights, since they span leaves, have an attribute
    `spans_leaves` that is True. Their pooled scores are vectors.
    """

    def pool(self, scores: Scores) -> Scores:
        """Return one score a unit; each leaf has the shape of its units."""

    def expand(self, mask: Mask, like: Scores) -> Mask:
        """Return the mask over weights of a mask over units; leaves broadcast to those of `like`."""

    def pool_mask(self, mask: Mask) -> Mask:
        """Mark the units that hold at least one weight that is alive in a mask of the weights' full shape."""

    def cost(self, tree: PyTree) -> PyTree:
        """Return the number of weights of each unit: float32, in the shape of the pooled scores."""


class _PerLeaf(abc.ABC):
    """A unit within one leaf, given by a way to pool and a way to expand one array with `reduce`."""

    reduce: Reduce

    @abc.abstractmethod
    def _pool(self, x: jax.Array, reduce: Reduce) -> jax.Array:
        """Return one value a unit of an array."""

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
class Element:
    def pool(self, scores: Scores) -> Scores:
        return scores

    def expand(self, mask: Mask, like: Scores) -> Mask:
        return _tree.map_present(lambda m, _: m, mask, like)

    def pool_mask(self, mask: Mask) -> Mask:
        return mask

    def cost(self, tree: PyTree) -> PyTree:
        return _tree.map_present(lambda x: jnp.ones(x.shape, jnp.float32), tree)


@dataclasses.dataclass(frozen=True)
class Axis(_PerLeaf):
    axis: int
    reduce: Reduce

    def _pool(self, x: jax.Array, reduce: Reduce) -> jax.Array:
        kept = normalise_axis(self.axis, x.shape, "units.axis")
        return reduce(x, tuple(a for a in range(x.ndim) if a != kept), None)


@dataclasses.dataclass(frozen=True)
class Heads(_PerLeaf):
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
class Block(_PerLeaf):
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
class Leaf(_PerLeaf):
    reduce: Reduce

    def _pool(self, x: jax.Array, reduce: Reduce) -> jax.Array:
        return reduce(x, tuple(range(x.ndim)), None)


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
    return wide(scores)


def _repeat(x: jax.Array, axis: int, times: int) -> jax.Array:
    """Repeat like jnp.repeat, but by broadcasting, which stays local on a sharded axis where a gather would not."""
    wide = jnp.broadcast_to(jnp.expand_dims(x, axis + 1), (*x.shape[: axis + 1], times, *x.shape[axis + 1 :]))
    return wide.reshape(*x.shape[:axis], math.prod(wide.shape[axis : axis + 2]), *x.shape[axis + 1 :])
