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


def check_count(least: int, **values: Any) -> None:
    """Raises InputError, naming the argument, for a value that is no whole number, finite and at least `least`."""
    check_number(**values)
    for name, value in values.items():
        if not isinstance(value, jax.core.Tracer) and not (least <= value < math.inf and value == int(value)):
            raise InputError(f"{name}={value} must be a whole number, {least} or more.")


def check_key(name: str, key: Any) -> None:
    """Raises InputError, naming the argument, unless `key` is one key of jax.random, or None."""
    if key is None:
        return
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    raw = dtype == jnp.uint32 and shape is not None and len(shape) == 1  # as jax.random.PRNGKey makes them
    if not typed and not raw:
        kind = type(key).__name__ if dtype is None else f"{dtype} array of shape {shape}"
        raise InputError(f"{name} is a {kind}, not one key of jax.random; pass jax.random.key(0), or split one.")


def _is_real(dtype: Any) -> bool:
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, np.bool_))
