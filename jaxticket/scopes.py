"""The scope of pruning: units that compete with each other for the places that a density leaves."""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp

from jaxticket._checks import check_axis, check_count
from jaxticket.errors import InputError
from jaxticket.units import normalise_axis

__all__ = ["Scope", "groups", "leaf", "slices", "tree"]


class Scope(Protocol):
    """The interface that `select` uses. Implementations are hashable, because they are static under jit."""

    @property
    def joint(self) -> bool:
        """Whether all leaves compete together."""

    def view(self, x: jax.Array) -> jax.Array:
        """Reshape a leaf so that whole axes compete; padded entries are 0 (False)."""

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the axes of the view of a leaf of this shape along which its entries compete."""

    def unview(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Undo `view`."""


@dataclasses.dataclass(frozen=True)
class _Whole:
    joint: bool

    def view(self, x: jax.Array) -> jax.Array:
        return x

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(range(len(shape)))

    def unview(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return x


@dataclasses.dataclass(frozen=True)
class _Slices:
    axis: int
    joint: bool = False

    def view(self, x: jax.Array) -> jax.Array:
        return x

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        apart = normalise_axis(self.axis, shape, "scopes.slices")
        return tuple(a for a in range(len(shape)) if a != apart)

    def unview(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return x


@dataclasses.dataclass(frozen=True)
class _Groups:
    m: int
    axis: int
    joint: bool = False

    def view(self, x: jax.Array) -> jax.Array:
        axis = normalise_axis(self.axis, x.shape, "scopes.groups")
        padding = [(0, -x.shape[a] % self.m if a == axis else 0) for a in range(x.ndim)]
        whole = -(-x.shape[axis] // self.m)
        return jnp.pad(x, padding).reshape(*x.shape[:axis], whole, self.m, *x.shape[axis + 1 :])

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (normalise_axis(self.axis, shape, "scopes.groups") + 1,)

    def unview(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        axis = normalise_axis(self.axis, shape, "scopes.groups")
        flat = x.reshape(*shape[:axis], x.shape[axis] * self.m, *shape[axis + 1 :])
        return jax.lax.slice_in_dim(flat, 0, shape[axis], axis=axis)


def tree() -> Scope:
    """Let all units of all leaves compete: global pruning (Frankle & Carbin, 2019; Lee et al., 2019).

    Examples:
      >>> tree().joint
      True
    """
    return _Whole(joint=True)


def leaf() -> Scope:
    """Let the units of each leaf compete: layer-wise pruning, each leaf at its own density.

    Examples:
      >>> leaf().joint
      False
    """
    return _Whole(joint=False)


def slices(axis: int) -> Scope:
    """Let the units within each slice along `axis` compete.

    Axis −1 compares the weights of each output (Wanda; Sun et al., 2024). Axis 0 compares those of each layer where
    leaves are stacked (scan over layers).

    Examples:
      >>> slices(-1).axes((3, 4))
      (0,)
    """
    check_axis("axis", axis)
    return _Slices(axis)


def groups(m: int, *, axis: int = -2) -> Scope:
    """Let each `m` consecutive units along `axis` compete: density N/M gives N:M sparsity (Zhou et al., 2021).

    If `m` does not divide the axis, the last group is smaller. It keeps its share, rounded, and at least one unit.

    Args:
      m: the number of units in a group.
      axis: the axis of the groups. The default is the reduction axis of flax kernels (inputs), on which hardware wants
        them.

    Returns:
      A scope for `select`.

    Raises:
      InputError: m < 1, or an axis that is not a whole number.

    Examples:
      >>> groups(4, axis=-2).axes((8, 5))
      (1,)
    """
    check_axis("axis", axis)
    check_count(0, m=m)
    if m < 1:
        raise InputError(f"scopes.groups(m={m}): pass a group size of 1 or more, for example groups(4) for 2:4.")
    return _Groups(m, axis)
