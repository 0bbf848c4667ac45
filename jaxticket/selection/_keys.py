"""Scores as unsigned integers in the same order, so that integer bisection can locate the k-th largest.

Only integer arithmetic is used: XLA flushes denormals in float comparisons on some backends, never in integer ones.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxticket.errors import InputError


def of(scores: Sequence[jax.Array]) -> Callable[[jax.Array, jax.Array | None], jax.Array]:
    """Return a function that makes the keys of each of these leaves, in one order for all.

    The key is 0 for entries that are not alive, if `alive` is given.
    """
    dtype = common_dtype(scores)

    def key(leaf: jax.Array, alive: jax.Array | None) -> jax.Array:
        keys = to_key(leaf, dtype)
        return keys if alive is None else jnp.where(alive, keys, jnp.zeros_like(keys))

    return key


def is_wide(scores: Sequence[jax.Array]) -> bool:
    """Whether the keys of these scores need 64 bits."""
    return any(s.dtype.itemsize == 8 for s in scores)


def common_dtype(scores: Sequence[jax.Array], *, wide: bool = False) -> np.dtype:
    """Return the dtype in which the scores of several leaves compare: float32/64, int32/64 or uint32/64."""
    kinds = {("f" if jnp.issubdtype(s.dtype, jnp.floating) else np.dtype(s.dtype).kind) for s in scores}
    wide = wide or is_wide(scores)
    if kinds <= {"f"}:
        return np.dtype("float64" if wide else "float32")
    if kinds <= {"u", "b"}:
        return np.dtype("uint64" if wide else "uint32")
    if kinds <= {"i"}:
        return np.dtype("int64" if wide else "int32")
    raise InputError(
        f"scores have dtypes {sorted({str(s.dtype) for s in scores})}, which have no common exact order; "
        "cast them to one real dtype, for example scores.astype(jnp.float32)."
    )


def to_key(scores: jax.Array, dtype: np.dtype) -> jax.Array:
    """Return a monotone unsigned key of the width of `dtype`: NaN lowest (0), −0 = +0, denormals distinct."""
    bits = 8 * dtype.itemsize
    unsigned = jnp.uint32 if bits == 32 else jnp.uint64
    if dtype.kind == "u":
        return scores.astype(unsigned)
    sign = np.asarray(1 << (bits - 1), unsigned)
    if dtype.kind == "i":
        return jax.lax.bitcast_convert_type(scores.astype(dtype), unsigned) ^ sign
    pattern = _float_bits(scores, dtype, unsigned)
    magnitude = pattern & ~sign
    infinity = np.asarray(jnp.finfo(dtype).max, dtype).view(unsigned) + unsigned(1)
    key = jnp.where(pattern >= sign, sign - magnitude, sign + magnitude)
    return jnp.where(magnitude > infinity, jnp.zeros_like(key), key)


def from_key(key: jax.Array, dtype: np.dtype) -> jax.Array:
    """Return the score of a key, in `dtype`; keys above that of +inf (no score has one) become +inf, 0 becomes NaN."""
    bits = 8 * dtype.itemsize
    unsigned = key.dtype.type
    if dtype.kind == "u":
        return key
    sign = np.asarray(1 << (bits - 1), unsigned)
    if dtype.kind == "i":
        return jax.lax.bitcast_convert_type(key ^ sign, dtype)
    infinity = np.asarray(jnp.finfo(dtype).max, dtype).view(unsigned) + unsigned(1)
    positive = jnp.minimum(key - sign, infinity)
    negative = (sign - key) | sign
    pattern = jnp.where(key >= sign, positive, negative)
    value = jax.lax.bitcast_convert_type(pattern, dtype)
    return jnp.where(key == 0, jnp.full_like(value, jnp.nan), value)


def _float_bits(scores: jax.Array, dtype: np.dtype, unsigned: DTypeLike) -> jax.Array:
    if scores.dtype == jnp.bfloat16 and dtype == np.float32:
        # A cast could flush bfloat16's denormals; the upper half of a float32 is a bfloat16 bit for bit.
        return jax.lax.bitcast_convert_type(scores, jnp.uint16).astype(jnp.uint32) << 16
    return jax.lax.bitcast_convert_type(scores.astype(dtype), unsigned)
