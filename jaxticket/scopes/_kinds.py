"""The interface of a scope, and the scopes of whole leaves and slices."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Protocol

import jax

from jaxticket import _layers, _tree
from jaxticket._checks import check_axis
from jaxticket.errors import InputError
from jaxticket.typing import PyTree
from jaxticket.units import normalise_axis


class Scope(Protocol):
    """The interface that `select` uses. Implementations are hashable, because they are static under jit."""

    @property
    def joint(self) -> bool:
        """Whether all leaves compete together."""

    def bind(self, tree: PyTree) -> PyTree:
        """Return the scope of each leaf of a tree, None for None; only these scopes have a view, if leaves differ."""

    def view(self, x: jax.Array) -> jax.Array:
        """Reshape a leaf so that whole axes compete; padded entries are 0 (False)."""

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the axes of the view of a leaf of this shape along which its entries compete."""

    def unview(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Undo `view`."""


class ByName(abc.ABC):
    """A scope whose leaves have scopes of their own, by their names. It sees an array as a leaf without a name."""

    @abc.abstractmethod
    def bind(self, tree: PyTree) -> PyTree:
        """Return the scope of each leaf of a tree, None for None."""

    def view(self, x: jax.Array) -> jax.Array:
        return self._of_array(x.shape).view(x)

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._of_array(shape).axes(shape)

    def unview(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self._of_array(shape).unview(x, shape)

    def _of_array(self, shape: tuple[int, ...]) -> Scope:
        bound: Scope = self.bind(jax.ShapeDtypeStruct(shape, bool))
        return bound


@dataclasses.dataclass(frozen=True)
class _Whole:
    joint: bool

    def bind(self, tree: PyTree) -> PyTree:
        return _tree.map_present(lambda _: self, tree)

    def view(self, x: jax.Array) -> jax.Array:
        return x

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(range(len(shape)))

    def unview(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return x


@dataclasses.dataclass(frozen=True)
class _Slices:
    apart: tuple[int, ...]
    joint: bool = False

    def bind(self, tree: PyTree) -> PyTree:
        return _tree.map_present(lambda _: self, tree)

    def view(self, x: jax.Array) -> jax.Array:
        return x

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        apart = [normalise_axis(axis, shape, "scopes.slices") for axis in self.apart]
        if len(set(apart)) < len(apart):
            raise InputError(f"scopes.slices{self.apart} repeats an axis of a leaf of shape {shape}; name each once.")
        return tuple(a for a in range(len(shape)) if a not in apart)

    def unview(self, x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return x


@dataclasses.dataclass(frozen=True)
class _ByOutput(ByName):
    """Slices along the axes of outputs, which each leaf has for itself."""

    joint: bool = False

    def bind(self, tree: PyTree) -> PyTree:
        def choose(x: jax.Array | None, place: _layers.Place) -> _Slices | None:
            if x is None:
                return None
            axes = _layers.output_axes(place, x.ndim)
            if axes is None:
                raise InputError(
                    f"scopes.slices(): the name {place.name!r} does not say which axes of shape {x.shape} have the "
                    f"outputs. If one has layers, pass it as stacked={{{place.name!r}: axis}}; or name the axes of "
                    "outputs and of layers: scopes.slices(axis)."
                )
            return _Slices(axes)

        return _tree.tree_map(choose, tree, _layers.places(tree))


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


def slices(axis: int | Sequence[int] | None = None) -> Scope:
    """Let the units within each slice along an axis, or along several, compete.

    Without `axis` each output is a slice, so that the weights of an output compete (Wanda; Sun et al., 2024). The
    outputs follow from the names that frameworks give, as the inputs do for `groups`. They are the last axis of flax
    and haiku, the first of torch and equinox, and (heads, head size) of query, key and value. An error asks for the
    axes of other leaves of three axes, such as stacked layers.

    With `axis` all axes that it does not name compete, also one of layers or experts. Axis −1 of a leaf (layers,
    inputs, outputs) lets the layers of an output compete; (0, −1) does not. For (inputs, layers, outputs) it is
    (1, −1). Where only some leaves are stacked, `stacked={regex: axis}` or `by_slice` names them.

    Args:
      axis: the axis or axes, of which each index is a slice; None: the outputs of each leaf.

    Returns:
      A scope for `select`, which raises InputError for leaves without these axes.

    Raises:
      InputError: an axis that is not a whole number, or none.

    Examples:
      >>> slices(-1).axes((3, 4)), slices((0, -1)).axes((2, 3, 4)), slices().axes((3, 4))
      ((0,), (1,), (0,))
    """
    if axis is None:
        return _ByOutput()
    apart = tuple(axis) if isinstance(axis, Sequence) and not isinstance(axis, str) else (axis,)
    for one in apart:
        check_axis("axis", one)
    if not apart:
        raise InputError("axis=() names no axis; pass one or several, or take scopes.leaf().")
    return _Slices(apart)
