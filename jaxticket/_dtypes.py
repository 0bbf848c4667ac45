"""Dtypes wide enough for what is computed from half precision and less."""

import jax
import jax.numpy as jnp
import numpy as np


def wide_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype that `dtype` and float32 promote to; jax has no such rule for floats of 8 bits."""
    narrow = jnp.issubdtype(dtype, jnp.floating) and np.dtype(dtype).itemsize < 4
    return np.dtype(np.float32) if narrow else jnp.promote_types(dtype, jnp.float32)


def wide(x: jax.Array) -> jax.Array:
    """Return `x` in float32 at least: sums over many entries lose nothing, and products do not underflow."""
    return x.astype(wide_dtype(x.dtype))


def widen(update: jax.Array, param: jax.Array) -> jax.Array:
    """Return the update in a dtype that holds every value of the parameter, so that their sum can be an exact zero.

    Updates of parameters that are not floats stay as they are.
    """
    if update.dtype == param.dtype or not all(jnp.issubdtype(x.dtype, jnp.inexact) for x in (update, param)):
        return update
    bits, needed = jnp.finfo(update.dtype).bits, jnp.finfo(param.dtype).bits
    if bits > needed:
        return update
    return update.astype(param.dtype if bits < needed else wide_dtype(param.dtype))
