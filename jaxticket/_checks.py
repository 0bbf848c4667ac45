"""What arguments must be before anything is computed from them; of what is traced, only the type is known."""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket.errors import InputError


def check_number(**values: Any) -> None:
    """Raises InputError, naming the argument, for a value that is no real number: one of Python's, numpy's or jax's.

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
    """The number that a value is known to be, also where jax is tracing; else the traced value, or no number at all."""
    is_array = isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
    return value.item() if is_array and value.shape == () else value


def check_fraction(name: str, value: Any) -> None:
    """Raises InputError, naming the argument, for a value that is no number in [0, 1]."""
    check_number(**{name: value})
    if not isinstance(value, jax.core.Tracer) and not 0 <= known(value) <= 1:
        raise InputError(f"{name}={value} is not a fraction; pass a number between 0 and 1.")


def check_count(least: int, **values: Any) -> None:
    """Raises InputError, naming the argument, for a value that is no whole number, finite and at least `least`."""
    check_number(**values)
    for name, value in ((name, known(value)) for name, value in values.items()):
        if not isinstance(value, jax.core.Tracer) and not (least <= value < math.inf and value == int(value)):
            raise InputError(f"{name}={value} must be a whole number, {least} or more.")


def check_axis(name: str, axis: Any) -> None:
    """Raises InputError, naming the argument, for an axis that is no whole number."""
    if not isinstance(axis, numbers.Integral) or isinstance(axis, bool):
        raise InputError(f"{name}={axis!r} is not an axis; pass a whole number, such as -1 for the last.")


def check_key(name: str, key: Any) -> None:
    """Raises InputError, naming the argument, unless `key` is one key of jax.random."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    raw = dtype == jnp.uint32 and shape is not None and len(shape) == 1  # as jax.random.PRNGKey makes them
    if not typed and not raw:
        kind = type(key).__name__ if dtype is None else f"{dtype} array of shape {shape}"
        raise InputError(f"{name} is a {kind}, not one key of jax.random; pass jax.random.key(0), or split one.")


def _is_real(dtype: Any) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, np.bool_))
