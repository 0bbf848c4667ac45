"""Stacked leaves: several layers or experts in one array, which holds them along the axes that are declared."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxticket import _tree
from jaxticket._checks import check_axis
from jaxticket.errors import InputError
from jaxticket.typing import PyTree, Stacked

Axes = tuple[int, ...]  # stacked axes of a leaf, counted from 0, ascending; () for a leaf that is one layer


@dataclasses.dataclass(frozen=True)
class Stack:
    """A declaration of stacked leaves: hashable pairs of a regex and axes, of which the first match decides."""

    rules: tuple[tuple[str, Axes], ...] = ()

    def axes(self, tree: PyTree) -> list[Axes]:
        """Return the stacked axes of each leaf, in tree order; () for None.

        Raises NoMatchError for a regex that decides no leaf, InputError for axes that a leaf does not have.
        """
        leaves = _tree.leaves(tree)
        if not self.rules:
            return [()] * len(leaves)
        places = {regex: place for place, (regex, _) in enumerate(self.rules)}
        chosen = _tree.leaves(_tree.resolve(places, tree, default=-1))
        names = _tree.leaves(_tree.names(tree))
        return [
            () if leaf is None or place < 0 else _axes_of(self.rules[place][1], leaf.shape, name)
            for leaf, place, name in zip(leaves, chosen, names, strict=True)
        ]

    def slices(self, tree: PyTree) -> PyTree:
        """Return the shape and dtype of a layer of each leaf, None for None."""
        shapes = [
            None if x is None else jax.ShapeDtypeStruct(slice_shape(x.shape, axes), x.dtype)
            for x, axes in zip(_tree.leaves(tree), self.axes(tree), strict=True)
        ]
        return _place(tree, dict(enumerate(shapes)))

    def map(self, f: Callable[..., PyTree], tree: PyTree, *rest: PyTree) -> PyTree:
        """Map a function of trees, such that it sees each layer as a leaf of its own; axes keep their places.

        The leaves that are stacked equally are one vmap, so that the work of tracing does not depend on their number
        of layers.
        """
        axes = self.axes(tree)
        if not any(axes):
            return f(tree, *rest)
        columns = [_tree.leaves(t) for t in (tree, *rest)]
        out: list[Any] = [None] * len(axes)
        present = [i for i, column in enumerate(zip(*columns, strict=True)) if all(x is not None for x in column)]
        sizes = {i: tuple(columns[0][i].shape[a] for a in axes[i]) for i in present}
        for alike in dict.fromkeys(sizes.values()):
            members = [i for i in present if sizes[i] == alike]

            def call(*arrays: list[jax.Array], members: list[int] = members) -> list[jax.Array]:
                trees = [_place(tree, dict(zip(members, a, strict=True))) for a in arrays]
                mapped = _tree.leaves(f(*trees))
                return [mapped[i] for i in members]

            over = map_slices(call, [axes[i] for i in members], len(columns))
            for i, x in zip(members, over(*([column[i] for i in members] for column in columns)), strict=True):
                out[i] = x
        return _place(tree, dict(enumerate(out)))


def read(stacked: Stacked | None) -> Stack:
    """Return the declaration, checked. Raises InputError for what is not a mapping from regexes to axes."""
    if stacked is None:
        return Stack()
    if not isinstance(stacked, Mapping):
        raise InputError(f"stacked is a {type(stacked).__name__}; pass a mapping {{regex of a path: axis or axes}}.")
    rules = []
    for regex, axes in stacked.items():
        _tree.compile_regex("stacked", regex)
        axes = tuple(axes) if isinstance(axes, Sequence) and not isinstance(axes, str) else (axes,)
        for axis in axes:
            check_axis(f"stacked[{regex!r}]", axis)
        if not axes:
            raise InputError(f"stacked[{regex!r}] holds no axis; pass one, such as 0, or leave the regex out.")
        rules.append((regex, tuple(map(int, axes))))
    return Stack(tuple(rules))


def map_slices(f: Callable[..., Any], axes: Sequence[Axes], arguments: int) -> Callable[..., Any]:
    """Return `f`, a function of lists of arrays, mapped over the stacked axes of each array; they keep their places."""
    for level in reversed(range(len(axes[0]))):
        # Within the level before, the axes before this one are gone.
        here = [a[level] - level for a in axes]
        f = jax.vmap(f, in_axes=(here,) * arguments, out_axes=here)
    return f


def slice_shape(shape: Sequence[int], axes: Axes) -> tuple[int, ...]:
    """Return the shape of a layer of a stacked leaf."""
    return tuple(n for a, n in enumerate(shape) if a not in axes)


def stack_shape(shape: Sequence[int], axes: Axes) -> tuple[int, ...]:
    """Return the shape of an array of a number a layer: it broadcasts to the leaf."""
    return tuple(n if a in axes else 1 for a, n in enumerate(shape))


def count_slices(shape: Sequence[int], axes: Axes) -> int:
    """Return the number of layers of a leaf."""
    return math.prod(shape[a] for a in axes)


def labels(name: str, shape: Sequence[int], axes: Axes) -> list[str]:
    """Return the names of the layers of a leaf, in the order of their indices.

    Examples:
      >>> labels("mlp/kernel", (8, 2, 4), (1,))
      ['mlp/kernel[:, 0]', 'mlp/kernel[:, 1]']
    """
    if not axes:
        return [name]
    kept = [range(shape[a]) if a in axes else (":",) for a in range(max(axes) + 1)]
    return [f"{name}[{', '.join(map(str, index))}]" for index in itertools.product(*kept)]


def by_slice(x: np.ndarray, axes: Axes) -> np.ndarray:
    """Return an array as (layers, entries)."""
    return np.moveaxis(x, axes, range(len(axes))).reshape(math.prod(x.shape[a] for a in axes), -1)


def _place(tree: PyTree, leaves: Mapping[int, Any]) -> PyTree:
    """Return a tree with these leaves, by their numbers, and None for all others."""
    structure = _tree.structure(tree)
    return jax.tree.unflatten(structure, [leaves.get(i) for i in range(structure.num_leaves)])


def _axes_of(axes: Axes, shape: Sequence[int], name: str) -> Axes:
    for axis in axes:
        if not -len(shape) <= axis < len(shape):
            raise InputError(
                f"stacked: {name!r} of shape {tuple(shape)} has no axis {axis}; correct the axes or the regex."
            )
    counted = tuple(sorted(a % len(shape) for a in axes))
    if len(set(counted)) < len(counted):
        raise InputError(f"stacked: axes {axes} of {name!r}, of shape {tuple(shape)}, repeat an axis; name each once.")
    return counted
