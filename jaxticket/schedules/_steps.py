"""Steps, counted in updates: checks of them, and the part of the way that lies behind."""

import operator
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket.errors import InputError

Count = int | jax.Array


def progress(elapsed: jax.Array, length: int) -> jax.Array:
    """Return elapsed / length in [0, 1], in float32. Integers are clipped first: float32 cannot hold them all."""
    return jnp.clip(elapsed, 0, length).astype(jnp.float32) / jnp.float32(max(length, 1))


def check_steps(name: str, value: Any, *, at_least: int = 0, least_name: str = "") -> int:
    try:
        steps = operator.index(value)
    except TypeError as error:
        raise InputError(f"{name}={value!r} is not a whole number; steps count updates, as in {name}=100.") from error
    if steps < at_least:
        least = f"{least_name}={at_least}" if least_name else f"{at_least}"
        raise InputError(f"{name}={steps} is too small; it must be at least {least}.")
    return steps
