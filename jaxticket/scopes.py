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
    """What `select` needs to know of a scope. Implementations are hashable, because they are static under jit."""

    @property
    def joint(self) -> bool:
        """Do all leaves compete together?"""

    def view(self, x: jax.Array) -> jax.Array:
        """The leaf reshaped so that whole axes compete; what is padded is 0 (False)."""

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The axes of the view of a leaf of this shape along which its entries compete."""

    def unview(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Undoes `view`."""


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
    """All units of all leaves compete: global pruning (Frankle & Carbin, 2019; Lee et al., 2019).

    >>> tree().joint
    True
    """
    return _Whole(joint=True)


def leaf() -> Scope:
    """The units of each leaf compete: layer-wise pruning, each leaf at its own density.

    >>> leaf().joint
    False
    """
    return _Whole(joint=False)


def slices(axis: int) -> Scope:
    """The units within each slice along `axis` compete: −1 for each output (Wanda; Sun et al., 2024), 0 for each layer
    of stacked (scan-over-layers) leaves.

    >>> slices(-1).axes((3, 4))
    (0,)
    """
    check_axis("axis", axis)
    return _Slices(axis)


def groups(m: int, *, axis: int = -2) -> Scope:
    """Each `m` consecutive units along `axis` compete: density N/M gives N:M sparsity (Zhou et al., 2021).

    The default axis is the reduction axis of flax kernels (inputs), on which hardware wants the groups. If `m` does
    not divide the axis, the last group is smaller and keeps its share, rounded, at least 1.

    >>> groups(4, axis=-2).axes((8, 5))
    (1,)
    """
    check_axis("axis", axis)
    check_count(0, m=m)
    if m < 1:
        raise InputError(f"scopes.groups(m={m}): pass a group size of 1 or more, for example groups(4) for 2:4.")
    return _Groups(m, axis)
