"""Helpers for pytrees in which None is a leaf: the parameter is not sparsified."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxticket.errors import InputError, NoMatchError, StructureError
from jaxticket.typing import PyTree

# flax wraps arrays in these classes, whose key paths end in one of these attributes; they are not part of the name.
_WRAPPERS = ("Variable", "AxisMetadata")
_WRAPPER_NAMES = ("value", "raw_value")


def is_none(x: Any) -> bool:
    return x is None


def tree_map(f: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """Map like `jax.tree.map`, but None is a leaf and is passed to `f` like any other.

    The result has the containers of the first tree; the others are put into them, as by `align`.
    """
    rest = tuple(align(other, tree) for other in rest)
    try:
        for other in rest:
            structure(tree).flatten_up_to(other)
    except ValueError:
        raise StructureError(f"two pytrees that belong together differ: {describe_difference(tree, other)}") from None
    return jax.tree.map(f, tree, *rest, is_leaf=is_none)


def map_present(f: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """Map like `tree_map`, but return None, without calling `f`, wherever one of the leaves is None."""
    return tree_map(lambda *leaves: None if any(x is None for x in leaves) else f(*leaves), tree, *rest)


def leaves(tree: PyTree) -> list[Any]:
    """Return the leaves in tree order, None included."""
    return jax.tree.leaves(tree, is_leaf=is_none)


def structure(tree: PyTree) -> Any:
    """Return the structure in which None is a leaf."""
    return jax.tree.structure(tree, is_leaf=is_none)


def align(tree: PyTree, like: PyTree) -> PyTree:
    """Return the leaves of a tree in the containers of another tree whose leaves have the same path names.

    A tree with other names returns as it is.

    Examples:
      >>> align({"0": 1, "1": None}, [3, 4]), align({"a": 1}, [3])
      ([1, None], {'a': 1})
    """
    target = structure(like)
    if structure(tree) == target:
        return tree
    given, wanted = leaves(names(tree)), leaves(names(like))
    if len(set(given)) < len(given) or sorted(given) != sorted(wanted):
        return tree
    by_name = dict(zip(given, leaves(tree), strict=True))
    return jax.tree.unflatten(target, [by_name[name] for name in wanted])


def is_bool_tree(x: Any) -> bool:
    """Whether this is a pytree of bool, even one that can be called, as modules of equinox can."""
    kinds = [getattr(leaf, "dtype", type(leaf)) for leaf in jax.tree.leaves(x)]
    return bool(kinds) and all(kind in (bool, np.dtype(bool)) for kind in kinds)


def unwrap_none(tree: PyTree) -> PyTree:
    """Return the tree with a plain None wherever a class of flax wraps None."""

    def unwrap(x: Any) -> Any:
        held = leaves(x) if is_wrapper(x) else []
        return None if held and all(leaf is None for leaf in held) else x

    return jax.tree.map(unwrap, tree, is_leaf=lambda x: x is None or is_wrapper(x))


def describe_difference(a: PyTree, b: PyTree, a_name: str = "one", b_name: str = "the other") -> str:
    """Return the first place at which the structures of two trees differ, in a line, whatever their size.

    Examples:
      >>> describe_difference({"a": 1, "b": {"c": 1}}, {"a": 1, "b": {"d": 1}}, "mask", "params")
      "only mask has 'b/c'"
      >>> describe_difference({"a": (1, 2)}, {"a": [1, 2]}, "mask", "params")
      "at 'a' mask has a tuple, and params a list"
    """
    ours, theirs = ([path_name(path) for path, _ in _with_paths(tree)] for tree in (a, b))
    for first, second, holder in ((ours, set(theirs), a_name), (theirs, set(ours), b_name)):
        alone = next((name for name in first if name not in second), None)
        if alone is not None:
            return f"only {holder} has {alone!r}"
    path, x, y = _first_kinds(a, b, ())
    return f"at {path_name(path)!r} {a_name} has a {type(x).__name__}, and {b_name} a {type(y).__name__}"


def _with_paths(tree: PyTree) -> list[tuple[tuple[Any, ...], Any]]:
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)[0]


def _first_kinds(a: PyTree, b: PyTree, path: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any, Any]:
    """Return the first path at which the containers of trees with equal names differ, and both containers."""
    children = [
        jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x, tree=tree: x is not tree)[0] for tree in (a, b)
    ]
    if type(a) is type(b):
        for (key, x), (_, y) in zip(*children, strict=False):
            if key and structure(x) != structure(y):
                return _first_kinds(x, y, (*path, *key))
    return path, a, b


def shorten(items: list[str]) -> str:
    """Return a list of names as text, of which the first twenty are shown.

    Examples:
      >>> shorten(["a", "b"])
      "'a', 'b'"
      >>> shorten(["a"] * 30).endswith("'a' and 10 others")
      True
    """
    more = f" and {len(items) - 20} others" if len(items) > 20 else ""
    return ", ".join(map(repr, items[:20])) + more


def names(tree: PyTree) -> PyTree:
    """Return a tree of path names, such as 'layers/0/kernel' (None leaves have names too).

    A layer that is itself called 'value' keeps its name; the attribute in which flax wraps an array has none.
    """

    def fill(path: tuple[Any, ...], node: Any) -> PyTree:
        name = "/".join(map(_part, path))
        return jax.tree.map(lambda _: name, node, is_leaf=is_none) if is_wrapper(node) else name

    return jax.tree_util.tree_map_with_path(fill, tree, is_leaf=lambda x: x is None or is_wrapper(x))


def present_names(tree: PyTree) -> list[str]:
    """Return the path names of the leaves that are not None, in tree order."""
    return [name for name, x in zip(leaves(names(tree)), leaves(tree), strict=True) if x is not None]


def path_name(path: tuple[Any, ...]) -> str:
    """Return a name such as 'layers/0/kernel' for a JAX key path, whatever container made it.

    Where the tree is at hand, `names` separates the wrappers of flax from attributes of the same name.
    """
    wrapped = len(path) > 1 and isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name in _WRAPPER_NAMES
    return "/".join(map(_part, path[:-1] if wrapped else path))


def _part(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


def is_wrapper(node: Any) -> bool:
    """Whether it is a class in which flax wraps an array."""
    return any(c.__name__ in _WRAPPERS and c.__module__.startswith("flax.") for c in type(node).__mro__)


def compile_regex(name: str, regex: Any) -> re.Pattern[str]:
    """Compile a regular expression. Raises InputError, naming the argument, if it cannot be read."""
    try:
        return re.compile(regex if isinstance(regex, str) else _reject_type(regex))
    except (re.error, OverflowError, RecursionError, TypeError) as error:
        raise InputError(f"{name}: {regex!r:.200} is not a regular expression ({error})") from error


def _reject_type(regex: Any) -> str:
    raise TypeError(f"{type(regex).__name__} is not text")


def resolve(rules: Mapping[str, Any], tree: PyTree, *, default: Any = None) -> PyTree:
    """Give each leaf the value of the first rule whose regex matches in its path name, else `default`.

    Raises NoMatchError if a rule is the first match of no leaf: a misspelt path must not pass in silence.
    """
    if not isinstance(rules, Mapping):
        raise InputError(f"rules is a {type(rules).__name__}, not a mapping; pass {{regex of a path: value}}")
    patterns = [(compile_regex("rules", pattern), pattern) for pattern in rules]
    used = set()

    def first_match(name: str) -> Any:
        for regex, pattern in patterns:
            if regex.search(name):
                used.add(pattern)
                return rules[pattern]
        return default

    resolved = jax.tree.map(first_match, names(tree))
    unused = [pattern for _, pattern in patterns if pattern not in used]
    if unused and jax.tree.leaves(tree):
        raise NoMatchError(
            f"rules {unused} match no leaf (or none left by earlier rules); leaves: {shorten(leaves(names(tree)))}"
        )
    return resolved


def in_order(blocks: Mapping[str, Any]) -> list[str]:
    """Return the names of blocks, such as block2 and block10, by their numbers: jax sorts them as strings."""
    return sorted(blocks, key=lambda name: int(name.removeprefix("block")))
