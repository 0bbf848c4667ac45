"""Pytree helpers that know that None is a leaf: "this parameter is not sparsified"."""

import numbers
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket.errors import InputError, NoMatchError, StructureError
from jaxticket.typing import PyTree

# flax.nnx wraps each array in a Variable, whose key path ends in one of these; they are not part of the name.
_WRAPPER_NAMES = ("value", "raw_value")


def is_none(x: Any) -> bool:
    return x is None


def tree_map(f: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """`jax.tree.map` in which None is a leaf, passed to `f` like any other."""
    try:
        for other in rest:
            structure(tree).flatten_up_to(other)
    except ValueError:
        raise StructureError(_difference(tree, rest)) from None
    return jax.tree.map(f, tree, *rest, is_leaf=is_none)


def map_present(f: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """`tree_map` that returns None, without calling `f`, wherever one of its leaves is None."""
    return tree_map(lambda *leaves: None if any(x is None for x in leaves) else f(*leaves), tree, *rest)


def leaves(tree: PyTree) -> list[Any]:
    """The leaves in tree order, None included."""
    return jax.tree.leaves(tree, is_leaf=is_none)


def structure(tree: PyTree) -> Any:
    """The structure in which None is a leaf."""
    return jax.tree.structure(tree, is_leaf=is_none)


def check_structure(name: str, tree: PyTree, like_name: str, like: PyTree) -> None:
    """Raises StructureError unless both trees have the same structure (None counts as a leaf)."""
    check_leaves(name, tree)
    check_leaves(like_name, like)
    if structure(tree) != structure(like):
        raise StructureError(
            f"{name} has not the structure of {like_name}:\n  {name}: {structure(tree)}\n  {like_name}: "
            f"{structure(like)}\nBuild {name} from the same tree, with None for leaves that are not sparsified."
        )


def check_leaves(name: str, tree: PyTree) -> None:
    """Raises InputError, naming the leaf, for what is no array of numbers (or keys), no number, sharding or None."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        dtype = getattr(leaf, "dtype", None)
        if dtype is None and isinstance(leaf, numbers.Number | jax.sharding.Sharding | jax.sharding.PartitionSpec):
            continue
        if dtype is None or not hasattr(leaf, "shape") or getattr(dtype, "kind", "V") in "OSU":
            kind = type(leaf).__name__ if dtype is None else f"{dtype} array"
            raise InputError(f"{_where(name, path)} is a {kind}, not an array of numbers; pass a pytree of arrays.")


def check_arrays(name: str, tree: PyTree) -> None:
    """Raises InputError, naming the leaf, for what is no array of numbers (or keys) and not None."""
    check_leaves(name, tree)
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if not hasattr(leaf, "dtype"):
            raise InputError(
                f"{_where(name, path)} is a {type(leaf).__name__}, not an array; wrap it: jnp.asarray({leaf!r})."
            )


def check_array(name: str, array: Any, kind: Any = np.number) -> None:
    """Raises InputError for what is no single array of numbers of that kind (bool counts as a kind of its own)."""
    if not hasattr(array, "dtype") or not hasattr(array, "shape"):
        raise InputError(f"{name} is a {type(array).__name__}, not an array; wrap it: jnp.asarray(...).")
    if not jnp.issubdtype(array.dtype, kind):
        raise InputError(f"{name} has dtype {array.dtype}, but must be {kind.__name__}; convert it with astype.")


def check_mask(name: str, mask: PyTree) -> None:
    """Raises InputError, naming the leaf, for what is no array of bool and not None."""
    check_arrays(name, mask)
    for path, leaf in jax.tree_util.tree_flatten_with_path(mask)[0]:
        if leaf.dtype != bool:
            raise InputError(f"{_where(name, path)} has dtype {leaf.dtype}, not bool; masks.gate takes soft masks.")


def check_shapes(name: str, tree: PyTree, like_name: str, like: PyTree) -> None:
    """Raises StructureError unless both trees have the same structure and, where neither is None, the same shapes."""
    check_structure(name, tree, like_name, like)
    check_arrays(name, tree)
    check_arrays(like_name, like)

    def one(path: str, x: Any, y: Any) -> None:
        if x is not None and y is not None and x.shape != y.shape:
            raise StructureError(
                f"{name} at {path!r} has shape {x.shape}, {like_name} {y.shape}; pass arrays of the same shapes."
            )

    tree_map(one, names(like), tree, like)


def check_alike(name: str, tree: PyTree, like_name: str, like: PyTree) -> None:
    """Raises StructureError unless both trees have the same structure, the same shapes, and None in the same places."""
    check_shapes(name, tree, like_name, like)

    def one(path: str, x: Any, y: Any) -> None:
        if (x is None) != (y is None):
            raise StructureError(f"at {path!r} only one of {name} and {like_name} is None; both have it or neither.")

    tree_map(one, names(like), tree, like)


def _where(name: str, path: tuple[Any, ...]) -> str:
    return f"{name} at {path_name(path)!r}" if path else name


def _difference(tree: PyTree, rest: tuple[PyTree, ...]) -> str:
    """Where pytrees that belong together differ, in the words of jax."""
    try:
        jax.tree.map(lambda *_: None, tree, *rest, is_leaf=is_none)
    except ValueError as error:
        return f"two pytrees that belong together differ: {' '.join(str(error).split()):.500}"
    return "two pytrees that belong together differ"


def names(tree: PyTree) -> PyTree:
    """A tree of path names, such as 'layers/0/kernel' (None leaves are named too)."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path_name(path), tree, is_leaf=is_none)


def path_name(path: tuple[Any, ...]) -> str:
    """'layers/0/kernel' for a JAX key path, whatever container made it."""
    parts = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path]
    if len(parts) > 1 and parts[-1] in _WRAPPER_NAMES:
        parts.pop()
    return "/".join(parts)


def compile_regex(name: str, regex: Any) -> re.Pattern[str]:
    """The compiled regular expression. Raises InputError, naming the argument, for what is none."""
    try:
        return re.compile(regex if isinstance(regex, str) else _no_text(regex))
    except (re.error, OverflowError, RecursionError, TypeError) as error:
        raise InputError(f"{name}: {regex!r:.200} is not a regular expression ({error})") from error


def _no_text(regex: Any) -> str:
    raise TypeError(f"{type(regex).__name__} is no text")


def resolve(rules: Mapping[str, Any], tree: PyTree, *, default: Any = None) -> PyTree:
    """Gives each leaf the value of the first rule whose regex is found in its path name, else `default`.

    Raises NoMatchError if a rule is the first match of no leaf: a misspelt path must not pass in silence.
    """
    if not isinstance(rules, Mapping):
        raise InputError(f"rules is a {type(rules).__name__}, not a mapping; pass {{regex of a path: value}}")
    patterns = [(compile_regex("rules", pattern), pattern) for pattern in rules]
    used = set()

    def first_match(path: tuple[Any, ...], _: Any) -> Any:
        name = path_name(path)
        for regex, pattern in patterns:
            if regex.search(name):
                used.add(pattern)
                return rules[pattern]
        return default

    resolved = jax.tree_util.tree_map_with_path(first_match, tree, is_leaf=is_none)
    unused = [pattern for _, pattern in patterns if pattern not in used]
    if unused and jax.tree.leaves(tree):
        raise NoMatchError(
            f"rules {unused} match no leaf (or none left by earlier rules); leaves: {leaves(names(tree))}"
        )
    return resolved
