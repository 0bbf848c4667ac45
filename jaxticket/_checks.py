"""Checks of arguments, made before anything is computed from them; only the type of a traced value is known."""

import math
import numbers
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket.errors import InputError, StructureError
from jaxticket.typing import PyTree


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


def check_array(name: str, array: Any, kind: Any = np.number) -> None:
    """Raise InputError unless this is a single array of numbers of that kind (bool counts as a kind of its own)."""
    if not hasattr(array, "dtype") or not hasattr(array, "shape"):
        raise InputError(f"{name} is a {type(array).__name__}, not an array; wrap it: jnp.asarray(...).")
    if not jnp.issubdtype(array.dtype, kind):
        raise InputError(f"{name} has dtype {array.dtype}, but must be {kind.__name__}; convert it with astype.")


def check_minimum(minimum: int, scope: _Joint, unit: Any) -> None:
    """Raise InputError unless a selection of these units over `scope` can have this minimum."""
    check_count(0, minimum=minimum)
    if minimum > 0 and not scope.joint:
        raise InputError(f"minimum={minimum} must be 0, or positive with scope=scopes.tree()")
    if minimum > 0 and getattr(unit, "spans_leaves", False):
        raise InputError(
            f"minimum={minimum} must be 0 for units that span leaves, such as structure.unit(groups): no leaf has "
            "units of its own; structure.choose(cap=) limits what a group loses"
        )


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


def _is_real(dtype: Any) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, np.bool_))
