"""Checks of pytrees that belong together: they return the tree in the containers of the other one."""

import numbers
from collections.abc import Callable
from typing import Any

import jax

from jaxticket import _tree
from jaxticket.errors import InputError, StructureError
from jaxticket.typing import Mask, Params, PyTree


def check_structure(name: str, tree: PyTree, like_name: str, like: PyTree) -> PyTree:
    """Return the tree in the containers of `like`; raise StructureError unless their leaves have the same paths.

    None counts as a leaf. Containers may differ in kind, as a dict and a `State` of flax do.

    Examples:
      >>> import jax.numpy as jnp
      >>> check_structure("mask", {"0": None}, "params", [jnp.ones(2)])
      [None]
    """
    check_leaves(name, tree)
    check_leaves(like_name, like)
    tree = _tree.align(tree, like)
    if _tree.structure(tree) != _tree.structure(like):
        raise StructureError(
            f"{name} does not have the structure of {like_name}: "
            f"{_tree.describe_difference(tree, like, name, like_name)}. Build {name} from the same tree, with None for "
            "leaves that are not sparsified."
        )
    return tree


def check_leaves(name: str, tree: PyTree) -> None:
    """Raise InputError, naming the leaf, for one that is not an array of numbers (or keys), a number, a sharding or
    None.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        dtype = getattr(leaf, "dtype", None)
        if dtype is None and isinstance(leaf, numbers.Number | jax.sharding.Sharding | jax.sharding.PartitionSpec):
            continue
        if dtype is None or not hasattr(leaf, "shape") or getattr(dtype, "kind", "V") in "OSU":
            kind = type(leaf).__name__ if dtype is None else f"{dtype} array"
            raise InputError(f"{_where(name, path)} is a {kind}, not an array of numbers; pass a pytree of arrays.")


def check_arrays(name: str, tree: PyTree) -> None:
    """Raise InputError, naming the leaf, for one that is not an array of numbers (or keys) or None."""
    check_leaves(name, tree)
    _check_wrapped(name, tree)


def _check_wrapped(name: str, tree: PyTree) -> None:
    """Raise InputError, naming the leaf, for a number that is not an array."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if not hasattr(leaf, "dtype"):
            kind = type(leaf).__name__
            raise InputError(f"{_where(name, path)} is a {kind}, not an array; wrap it: jnp.asarray({leaf!r}).")


def check_mask(name: str, mask: PyTree) -> None:
    """Raise InputError, naming the leaf, for one that is not an array of bool or None."""
    check_arrays(name, mask)
    _check_bool(name, mask)


def _check_bool(name: str, mask: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(mask)[0]:
        if leaf.dtype != bool:
            raise InputError(f"{_where(name, path)} has dtype {leaf.dtype}, not bool; masks.gate takes soft masks.")


def check_shapes(name: str, tree: PyTree, like_name: str, like: PyTree) -> PyTree:
    """Return the tree as `check_structure` does; raise StructureError unless shapes, where neither is None, agree."""
    tree = check_structure(name, tree, like_name, like)
    _check_wrapped(name, tree)
    _check_wrapped(like_name, like)

    def compare_shapes(path: str, x: Any, y: Any) -> None:
        if x is not None and y is not None and x.shape != y.shape:
            shapes = f"{name} at {path!r} has shape {x.shape}, {like_name} {y.shape}"
            raise StructureError(f"{shapes}; pass arrays of the same shapes.")

    _tree.tree_map(compare_shapes, _tree.names(like), tree, like)
    return tree


def check_alike(name: str, tree: PyTree, like_name: str, like: PyTree) -> PyTree:
    """Return the tree as `check_shapes` does; raise StructureError unless both have None in the same places."""
    tree = check_shapes(name, tree, like_name, like)

    def compare_presence(path: str, x: Any, y: Any) -> None:
        if (x is None) != (y is None):
            one = f"at {path!r} only one of {name} and {like_name} is None"
            raise StructureError(f"{one}; pass None in both or in neither.")

    _tree.tree_map(compare_presence, _tree.names(like), tree, like)
    return tree


def check_fits(params: Params, mask: Mask, *, name: str = "mask") -> Mask:
    """Return the mask in the containers of the parameters.

    Raise StructureError unless its paths and shapes fit the parameters, InputError unless it is bool.

    Examples:
      >>> import jax.numpy as jnp
      >>> check_fits({"w": jnp.ones((3, 2))}, {"w": jnp.ones((1, 2), bool)})
      {'w': Array([[ True,  True]], dtype=bool)}
    """
    mask = check_broadcast(name, mask, params)
    _check_bool(name, mask)
    return mask


def check_broadcast(name: str, mask: PyTree, params: Params) -> PyTree:
    """Return the mask in the containers of the parameters; raise StructureError unless its leaves broadcast to them.

    Where the mask is None the parameters may hold anything, such as the functions of an equinox module, or a subtree
    that `optax.partition` gave to another optimizer.
    """
    mask = _spread_none(mask, params)
    params = _drop_others(params, mask)
    mask = check_structure(name, mask, "params", params)
    _check_wrapped(name, mask)
    _check_wrapped("params", params)

    def check_shape_of(path: str, p: jax.Array | None, m: jax.Array | None) -> None:
        if p is None or m is None:
            return
        if m.ndim != p.ndim or any(a not in (1, b) for a, b in zip(m.shape, p.shape, strict=True)):
            raise StructureError(
                f"{name} at {path!r} has shape {m.shape}, which does not broadcast to the parameter's {p.shape}; each "
                "axis must be full or 1."
            )

    _tree.tree_map(check_shape_of, _tree.names(params), params, mask)
    return mask


def check_updates(name: str, updates: Params, params: Params, *, mask: Mask | None = None) -> tuple[Params, Params]:
    """Return updates (or gradients) in the containers of the parameters, and the parameters that have one.

    As in optax, what has no update (None) may be anything: a frozen weight, a function of an equinox module. Its
    parameter returns as None.

    Args:
      name: the name of the argument.
      updates: the updates.
      params: the parameters.
      mask: the mask of the parameters, which must have an update where it is not None.

    Returns:
      Updates and parameters.

    Raises:
      StructureError: updates that do not fit the parameters.
      InputError: updates that are bool.
    """
    needed = updates if mask is None else _either(updates, mask)
    params = _keep_where(params, needed, lambda p, there: there is not None)
    updates = check_alike(name, updates, "params", params)
    for path, u in zip(_tree.leaves(_tree.names(updates)), _tree.leaves(updates), strict=True):
        if u is not None and u.dtype == bool:
            raise InputError(f"{name} at {path!r} has dtype bool; pass numbers, as jax.grad gives them.")
    return updates, params


def _spread_none(mask: PyTree, params: PyTree) -> PyTree:
    """Return the mask with None for every leaf of a subtree in whose place it has one None; as it is if it differs."""
    if mask is None or _tree.structure(mask) == _tree.structure(params):
        return mask
    try:
        return jax.tree.map(
            lambda m, p: jax.tree.map(lambda _: None, p) if m is None else m, mask, params, is_leaf=_tree.is_none
        )
    except (TypeError, ValueError):
        return mask


def _drop_others(params: Params, mask: PyTree) -> Params:
    """Return the parameters with None for what is not an array, where the mask is None."""
    return _keep_where(params, mask, lambda p, m: m is not None or hasattr(p, "dtype"))


def _keep_where(params: Params, tree: PyTree, keeps: Callable[[Any, Any], bool]) -> Params:
    """Return the parameters with None where `keeps(p, x)` is false; as they are if `tree` does not fit them."""
    tree = _tree.align(tree, params)
    if _tree.structure(tree) != _tree.structure(params):
        return params
    return _tree.tree_map(lambda p, x: p if keeps(p, x) else None, params, tree)


def _either(a: PyTree, b: PyTree) -> PyTree:
    """Return the leaves of `a`, and those of `b` where they are None; `a` if they do not fit."""
    b = _tree.align(b, a)
    if _tree.structure(a) != _tree.structure(b):
        return a
    return _tree.tree_map(lambda x, y: y if x is None else x, a, b)


def _where(name: str, path: tuple[Any, ...]) -> str:
    return f"{name} at {_tree.path_name(path)!r}" if path else name
