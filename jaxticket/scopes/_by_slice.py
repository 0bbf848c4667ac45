"""Scopes of stacked leaves, within each layer or expert."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _stacked, _tree, units
from jaxticket.scopes._kinds import ByName, Scope, leaf
from jaxticket.typing import PyTree, Stacked
from jaxticket.units import Unit


@dataclasses.dataclass(frozen=True)
class BySlice(ByName):
    """A scope of layers; `stack` says which leaves hold several. All layers compete where all leaves do."""

    scope: Scope
    stack: _stacked.Stack

    @property
    def joint(self) -> bool:
        return self.scope.joint

    def bind(self, tree: PyTree) -> PyTree:
        if self.joint:
            return self.scope.bind(tree)
        axes = iter(self.stack.axes(tree))

        def bind_leaf(x: Any, own: Scope | None) -> Scope | None:
            stacked = next(axes)
            return own if own is None or not stacked else OfLeaf(own, stacked)

        return _tree.tree_map(bind_leaf, tree, self.scope.bind(self.stack.slices(tree)))


@dataclasses.dataclass(frozen=True)
class OfLeaf:
    """The scope of a leaf with stacked axes, which come first in its view."""

    scope: Scope
    stacked: _stacked.Axes
    joint: bool = False

    def bind(self, tree: PyTree) -> PyTree:
        return _tree.map_present(lambda _: self, tree)

    def view(self, x: jax.Array) -> jax.Array:
        return self._map(self.scope.view)(jnp.moveaxis(x, self.stacked, self._first))

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        within = self.scope.axes(_stacked.slice_shape(shape, self.stacked))
        return tuple(len(self.stacked) + a for a in within)

    def unview(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        inside = _stacked.slice_shape(shape, self.stacked)
        return jnp.moveaxis(self._map(lambda y: self.scope.unview(y, inside))(x), self._first, self.stacked)

    def spread(self, density: Any, ndim: int) -> Any:
        """Return densities of layers, which broadcast to the leaf, so that they broadcast to a view of `ndim` axes."""
        moved = _numpy_of(density).moveaxis(density, self.stacked, self._first)
        return moved.reshape(*moved.shape[: len(self.stacked)], *(1,) * (ndim - len(self.stacked)))

    @property
    def _first(self) -> tuple[int, ...]:
        return tuple(range(len(self.stacked)))

    def _map(self, f: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
        for _ in self.stacked:
            f = jax.vmap(f)
        return f


def by_slice(scope: Scope, stacked: Stacked | None) -> Scope:
    """Let the units of each layer or expert compete, in leaves that stack several of them.

    Axes of the scope count within a layer, so that `scopes.slices(0)` means the same as where layers are apart. In
    `scopes.tree()` the units of all layers of all leaves compete, as without it.

    Args:
      scope: units that compete with each other.
      stacked: regex of a path -> the axis or axes along which layers are stacked. The first regex that matches decides,
        and leaves that none matches are one layer. None stacks nothing.

    Returns:
      A scope for any function that takes one, beside `units.by_slice(unit, stacked)` for units that are not single
      weights. Functions with an argument `stacked=` make both.

    Raises:
      InputError: axes that are not whole numbers; when units compete, axes that a leaf does not have.
      NoMatchError: when units compete, a regex that decides no leaf.

    Examples:
      >>> from jaxticket import scopes, select
      >>> scores = {"layers": jnp.array([[9.0, 8.0, 7.0, 6.0], [1.0, 2.0, 3.0, 4.0]])}
      >>> select(scores, 0.5, scope=scopes.by_slice(scopes.leaf(), {"layers": 0}))["layers"].sum(1)
      Array([2, 2], dtype=int32)
    """
    stack = _stacked.read(stacked)
    return BySlice(scope, stack) if stack.rules else scope


def separate(stacked: Stacked | None, unit: Unit, scope: Scope) -> tuple[Unit, Scope]:
    """Return the unit and the scope by slice."""
    return units.by_slice(unit, stacked), by_slice(scope, stacked)


def stack_of(part: Unit | Scope) -> _stacked.Stack:
    """Return the declaration that a unit or a scope holds, an empty one for those that are not by slice."""
    return getattr(part, "stack", _stacked.Stack())


def within_leaves(part: Unit | Scope) -> Scope:
    """Return the scope of leaves, or of layers where the unit or the scope is by slice."""
    stack = stack_of(part)
    return BySlice(leaf(), stack) if stack.rules else leaf()


def _numpy_of(x: Any) -> Any:
    """Return the module for arrays of this kind: what is known on the host stays there, in float64."""
    return jnp if isinstance(x, jax.Array) else np
