"""The leaves of the traced variables to which the leaves of another tree belong, by their names.

A part of the variables may lack their trunk, as the state of an optimizer of the parameters alone lacks 'params'. So a
tree belongs to the variables if there is one trunk under which all its leaves lie; the shortest one counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxticket import _tree
from jaxticket.errors import InputError
from jaxticket.typing import PyTree

Shapes = Mapping[str, tuple[int, ...]]  # by the paths of the traced variables


def owners(argument: str, tree: PyTree, shapes: Shapes) -> list[str | None]:
    """Return for every leaf of a part of the variables its path there, None for None.

    Raises:
      InputError: a leaf that was not traced, or has another shape.
    """
    leaves, names = _tree.leaves(tree), _tree.leaves(_tree.names(tree))
    present = [name for name, x in zip(names, leaves, strict=True) if x is not None]
    ends = _ends(list(shapes))
    for name in present:
        if name not in ends:
            raise InputError(f"{argument}: {name} is not a leaf of the traced variables")
    trunks = _shortest(ends[name] for name in present) if present else [""]
    if len(trunks) != 1:
        raise InputError(
            f"{argument}: {', '.join(present[:2])} may be leaves of several parts of the traced variables, or of none; "
            "name them by their whole paths"
        )
    paths = [None if x is None else _join(trunks[0], name) for name, x in zip(names, leaves, strict=True)]
    for name, path, x in zip(names, paths, leaves, strict=True):
        shape = tuple(np.shape(x))
        if path is not None and not fits(shape, shapes[path]):
            raise InputError(f"{argument}: {name} has shape {shape}, which does not broadcast to {shapes[path]}")
    return paths


def fits(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    """Whether a shape is another one, with axes of size 1 for whole ones perhaps."""
    return len(shape) == len(full) and all(m in (1, n) for m, n in zip(shape, full, strict=True))


class Leaf(NamedTuple):
    """A leaf of any tree, and the paths of the variables that it may belong to: none, one, or several."""

    name: str
    paths: list[str]


def owners_within(tree: PyTree, paths: Sequence[str]) -> list[Leaf]:
    """Return for every leaf of a tree that holds parts of the variables, as a state does, to which leaf it belongs.

    The largest subtrees that belong to the variables decide, with the gaps that optax left in them. So the moments of a
    parameter that is itself called 'mu' are not mixed up. A leaf among others that do not belong is owned by its
    longest end that is an end of a path.
    """
    masked = jax.tree.leaves(tree, is_leaf=_is_masked)
    names = _tree.present_names(jax.tree.map(lambda x: 0, tree, is_leaf=_is_masked))
    items = [(name.split("/"), _is_masked(x)) for name, x in zip(names, masked, strict=True)]
    ends, nodes = _ends(paths), _ends([node for path in paths for node in _nodes(path)])
    owned: dict[str, list[str]] = {}

    def alone(parts: list[str]) -> list[str]:
        for start in range(len(parts)):
            name = "/".join(parts[start:])
            if name in ends:
                return [_join(trunk, name) for trunk in _shortest([ends[name]])]
        return []

    def before(name: str, gap: bool) -> set[str]:
        trunks = ends.get(name, set())
        return trunks | nodes.get(name, set()) if gap else trunks

    def visit(items: list[tuple[list[str], bool]], start: int) -> None:
        inside = ["/".join(parts[start:]) for parts, _ in items]
        if len(items) > 1:
            trunks = _shortest(before(name, gap) for name, (_, gap) in zip(inside, items, strict=True))
            for name, (parts, _) in zip(inside, items, strict=True):
                owned["/".join(parts)] = [_join(trunk, name) for trunk in trunks]
            if trunks:
                return
        children: dict[str, list[tuple[list[str], bool]]] = {}
        for parts, gap in items:
            if len(items) == 1 or len(parts) <= start:
                owned["/".join(parts)] = alone(parts)
            else:
                children.setdefault(parts[start], []).append((parts, gap))
        for child in children.values():
            visit(child, start + 1)

    visit(items, 0)
    return [Leaf(name, owned[name]) for name, (_, gap) in zip(names, items, strict=True) if not gap]


def _shortest(trunks: Iterable[set[str]]) -> list[str]:
    """Return the shortest of the trunks that all sets have in common."""
    common = set.intersection(*trunks)
    least = min(map(_depth, common), default=0)
    return sorted(trunk for trunk in common if _depth(trunk) == least)


def _ends(paths: Sequence[str]) -> dict[str, set[str]]:
    """Return for every end of a path the trunks before it."""
    ends: dict[str, set[str]] = {}
    for path in paths:
        parts = path.split("/")
        for start in range(len(parts)):
            ends.setdefault("/".join(parts[start:]), set()).add("/".join(parts[:start]))
    return ends


def _nodes(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _join(trunk: str, name: str) -> str:
    return f"{trunk}/{name}" if trunk else name


def _depth(trunk: str) -> int:
    return trunk.count("/") + bool(trunk)


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)
