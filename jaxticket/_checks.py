"""Checks of arguments, made before anything is computed from them; only the type of a traced value is known."""

import math
import numbers
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from jaxticket.errors import InputError, StructureError
from jaxticket.typing import Mask, Params, PyTree


class _Joint(Protocol):
    """The part of a scope that the checks use."""

    @property
    def joint(self) -> bool: ...


def check_number(**values: Any) -> None:
    """Raise InputError, naming the argument, for a value that is not a real number of Python, numpy or jax.

    Examples:
      >>> check_number(rate=0.5, stop=np.int64(3))
      >>> check_number(rate="0.5")
      Traceback (most recent call last):
      ...
      jaxticket.errors.InputError: rate='0.5' is a str, not a number; pass a real number, such as 0.5 or 100.
    """
    for name, value in values.items():
        if isinstance(value, numbers.Real):
            continue
        dtype = getattr(value, "dtype", None)
        if dtype is None or getattr(value, "shape", None) != () or not _is_real(dtype):
            kind = type(value).__name__ if dtype is None else f"{dtype} array of shape {getattr(value, 'shape', '?')}"
            raise InputError(f"{name}={value!r:.80} is a {kind}, not a number; pass a real number, such as 0.5 or 100.")


def known(value: Any) -> Any:
    """Return the number that a value is known to be, also while jax is tracing; else the value itself."""
    is_array = isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
    return value.item() if is_array and value.shape == () else value


def check_fraction(name: str, value: Any) -> None:
    """Raise InputError, naming the argument, for a value that is not a number in [0, 1]."""
    check_number(**{name: value})
    if not isinstance(value, jax.core.Tracer) and not 0 <= known(value) <= 1:
        raise InputError(f"{name}={value} is not a fraction; pass a number between 0 and 1.")


def check_count(least: int, **values: Any) -> None:
    """Raise InputError, naming the argument, for a value that is not a finite whole number of at least `least`."""
    check_number(**values)
    for name, value in ((name, known(value)) for name, value in values.items()):
        if not isinstance(value, jax.core.Tracer) and not (least <= value < math.inf and value == int(value)):
            raise InputError(f"{name}={value} must be a whole number, {least} or more.")


def check_axis(name: str, axis: Any) -> None:
    """Raise InputError, naming the argument, for an axis that is not a whole number."""
    if not isinstance(axis, numbers.Integral) or isinstance(axis, bool):
        raise InputError(f"{name}={axis!r} is not an axis; pass a whole number, such as -1 for the last.")


def check_key(name: str, key: Any) -> None:
    """Raise InputError, naming the argument, unless `key` is one key of jax.random."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    raw = dtype == jnp.uint32 and shape is not None and len(shape) == 1  # as jax.random.PRNGKey makes them
    if not typed and not raw:
        kind = type(key).__name__ if dtype is None else f"{dtype} array of shape {shape}"
        raise InputError(f"{name} is a {kind}, not one key of jax.random; pass jax.random.key(0), or split one.")


def check_structure(name: str, tree: PyTree, like_name: str, like: PyTree) -> None:
    """Raise StructureError unless both trees have the same structure (None counts as a leaf)."""
    check_leaves(name, tree)
    check_leaves(like_name, like)
    if _tree.structure(tree) != _tree.structure(like):
        raise StructureError(
            f"{name} does not have the structure of {like_name}: "
            f"{_tree.describe_difference(tree, like, name, like_name)}. Build {name} from the same tree, with None for "
            "leaves that are not sparsified."
        )


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


def check_array(name: str, array: Any, kind: Any = np.number) -> None:
    """Raise InputError unless this is a single array of numbers of that kind (bool counts as a kind of its own)."""
    if not hasattr(array, "dtype") or not hasattr(array, "shape"):
        raise InputError(f"{name} is a {type(array).__name__}, not an array; wrap it: jnp.asarray(...).")
    if not jnp.issubdtype(array.dtype, kind):
        raise InputError(f"{name} has dtype {array.dtype}, but must be {kind.__name__}; convert it with astype.")


def check_mask(name: str, mask: PyTree) -> None:
    """Raise InputError, naming the leaf, for one that is not an array of bool or None."""
    check_arrays(name, mask)
    _check_bool(name, mask)


def _check_bool(name: str, mask: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(mask)[0]:
        if leaf.dtype != bool:
            raise InputError(f"{_where(name, path)} has dtype {leaf.dtype}, not bool; masks.gate takes soft masks.")


def check_shapes(name: str, tree: PyTree, like_name: str, like: PyTree) -> None:
    """Raise StructureError unless both trees have the same structure and, where neither is None, the same shapes."""
    check_structure(name, tree, like_name, like)
    _check_wrapped(name, tree)
    _check_wrapped(like_name, like)

    def compare_shapes(path: str, x: Any, y: Any) -> None:
        if x is not None and y is not None and x.shape != y.shape:
            shapes = f"{name} at {path!r} has shape {x.shape}, {like_name} {y.shape}"
            raise StructureError(f"{shapes}; pass arrays of the same shapes.")

    _tree.tree_map(compare_shapes, _tree.names(like), tree, like)


def check_alike(name: str, tree: PyTree, like_name: str, like: PyTree) -> None:
    """Raise StructureError unless both trees have the same structure, the same shapes, and None in the same places."""
    check_shapes(name, tree, like_name, like)

    def compare_presence(path: str, x: Any, y: Any) -> None:
        if (x is None) != (y is None):
            one = f"at {path!r} only one of {name} and {like_name} is None"
            raise StructureError(f"{one}; pass None in both or in neither.")

    _tree.tree_map(compare_presence, _tree.names(like), tree, like)


def check_fits(params: Params, mask: Mask, *, name: str = "mask") -> None:
    """Raise StructureError unless the mask's structure and shapes fit the parameters, InputError unless it is bool.

    Examples:
      >>> import jax.numpy as jnp
      >>> check_fits({"w": jnp.ones((3, 2))}, {"w": jnp.ones((1, 2), bool)})
    """
    check_broadcast(name, mask, params)
    _check_bool(name, mask)


def check_broadcast(name: str, mask: PyTree, params: Params) -> None:
    """Raise StructureError unless the mask's structure fits the parameters and its leaves broadcast to them."""
    check_structure(name, mask, "params", params)
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


def check_updates(name: str, updates: Params, params: Params) -> None:
    """Raise StructureError unless updates (or gradients) fit the parameters, InputError for updates that are bool."""
    check_alike(name, updates, "params", params)
    for path, u in zip(_tree.leaves(_tree.names(updates)), _tree.leaves(updates), strict=True):
        if u is not None and u.dtype == bool:
            raise InputError(f"{name} at {path!r} has dtype bool; pass numbers, as jax.grad gives them.")


def check_minimum(minimum: int, scope: _Joint) -> None:
    """Raise InputError unless a selection over `scope` can have this minimum."""
    check_count(0, minimum=minimum)
    if minimum > 0 and not scope.joint:
        raise InputError(f"minimum={minimum} must be 0, or positive with scope=scopes.tree()")


def check_batches(batches: Iterable[PyTree]) -> None:
    """Raise InputError unless the batches can be read more than once."""
    if isinstance(batches, Iterator) or not isinstance(batches, Iterable) or hasattr(batches, "shape"):
        raise InputError(
            f"batches is a {type(batches).__name__}; pass a sequence of batches that can be read again, such as "
            "list(batches), or [batch] for a single batch."
        )


def check_examples(batch: PyTree) -> None:
    """Raise InputError unless all leaves of a batch have the same length along their first axis."""
    lengths = {x.shape[0] if x.ndim else None for x in jax.tree.leaves(batch)}
    if len(lengths) != 1 or None in lengths:
        raise InputError(f"a batch's leaves have lengths {lengths} along their first axis, which must count examples.")


def check_shape(name: str, new: Any, old: Any) -> None:
    """Raise StructureError if a leaf that init(key) returns has another shape than the ticket's leaf of that name."""
    if new.shape != old.shape:
        raise StructureError(
            f"init(key) returns shape {new.shape} at {name!r}, where the ticket has {old.shape}; "
            "branches.transfer redraws leaves whose shapes differ"
        )


def check_sizes(**sizes: int) -> None:
    """Raise InputError unless every size is at least 1."""
    for name, value in sizes.items():
        if value < 1:
            raise InputError(f"{name}={value} must be at least 1")


def check_images(x: jax.Array, kernel: jax.Array, *, least: int = 1) -> None:
    """Raise InputError unless x is (batch, height, width, channels of the kernel), at least `least` pixels wide."""
    channels = kernel.shape[-2]
    if x.ndim != 4 or x.shape[-1] != channels:
        raise InputError(f"x has shape {x.shape}; images must be (batch, height, width, {channels})")
    if min(x.shape[1:3]) < least:
        raise InputError(f"x has shape {x.shape}; images must have at least {least} × {least} pixels")


def check_tokens(tokens: jax.Array) -> None:
    """Raise InputError unless tokens are integers of shape (batch, time)."""
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise InputError(f"x is {tokens.dtype}{list(tokens.shape)}; tokens must be integers of shape (batch, time)")


def check_heads(width: int, heads: int) -> None:
    """Raise InputError unless the heads divide the width."""
    if width % heads:
        raise InputError(f"width={width} must be a multiple of heads={heads}")


def _where(name: str, path: tuple[Any, ...]) -> str:
    return f"{name} at {_tree.path_name(path)!r}" if path else name


def _is_real(dtype: Any) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, np.bool_))
