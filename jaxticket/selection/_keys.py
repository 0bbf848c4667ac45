"""Scores as unsigned integers in the same order, so that integer bisection can locate the k-th largest.

Only integer arithmetic is used: XLA flushes denormals in float comparisons on some backends, never in integer ones.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from jaxticket.errors import InputError

# (scores, alive entries) -> unsigned, in the same order. A key function is static under jit: leaves whose functions are
# equal share programs.
KeyFn = Callable[[jax.Array, jax.Array | None], jax.Array]


@dataclasses.dataclass(frozen=True)
class _Order:
    """The key function of scores that compare in `dtype`: 0 for entries that are not alive, if `alive` is given."""

    dtype: np.dtype

    def __call__(self, scores: jax.Array, alive: jax.Array | None) -> jax.Array:
        keys = to_key(scores, self.dtype)
        return keys if alive is None else lax.select(alive, keys, lax.full_like(keys, 0))


def of(scores: Sequence[jax.Array], *, wide: bool = False) -> KeyFn:
    """Return the function that makes the keys of each of these leaves, in one order for all."""
    return _Order(common_dtype(scores, wide=wide))


def as_given(keys: jax.Array, alive: jax.Array | None) -> jax.Array:
    """Return scores that are keys already."""
    del alive
    return keys


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


@functools.partial(jax.jit, static_argnames="dtype")
def to_key(scores: jax.Array, dtype: np.dtype) -> jax.Array:
    """Return a monotone unsigned key of the width of `dtype`: NaN lowest (0), −0 = +0, denormals distinct."""
    bits = 8 * dtype.itemsize
    unsigned: Any = np.uint32 if bits == 32 else np.uint64
    if dtype.kind == "u":
        return lax.convert_element_type(scores, unsigned)
    sign = unsigned(1 << (bits - 1))
    if dtype.kind == "i":
        return lax.bitwise_xor(lax.bitcast_convert_type(lax.convert_element_type(scores, dtype), unsigned), sign)
    pattern = _float_bits(scores, dtype, unsigned)
    magnitude = lax.bitwise_and(pattern, ~sign)
    infinity = np.asarray(jnp.finfo(dtype).max, dtype).view(unsigned) + unsigned(1)
    key = lax.select(lax.ge(pattern, sign), lax.sub(sign, magnitude), lax.add(sign, magnitude))
    return lax.select(lax.gt(magnitude, infinity), lax.full_like(key, 0), key)


def from_key(key: jax.Array, dtype: np.dtype) -> jax.Array:
    """Return the score of a key, in `dtype`; keys above that of +inf (no score has one) become +inf, 0 becomes NaN."""
    bits = 8 * dtype.itemsize
    unsigned = key.dtype.type
    if dtype.kind == "u":
        return key
    sign = np.asarray(1 << (bits - 1), unsigned)
    if dtype.kind == "i":
        return lax.bitcast_convert_type(key ^ sign, dtype)
    infinity = np.asarray(jnp.finfo(dtype).max, dtype).view(unsigned) + unsigned(1)
    positive = jnp.minimum(key - sign, infinity)
    negative = (sign - key) | sign
    # As bits: a NaN that is not chosen would stop a program under jax_debug_nans.
    nan = np.asarray(np.nan, dtype).view(unsigned)
    return lax.bitcast_convert_type(jnp.where(key == 0, nan, jnp.where(key >= sign, positive, negative)), dtype)


def _float_bits(scores: jax.Array, dtype: np.dtype, unsigned: DTypeLike) -> jax.Array:
    if scores.dtype == jnp.bfloat16 and dtype == np.float32:
        # A cast could flush bfloat16's denormals; the upper half of a float32 is a bfloat16 bit for bit.
        return lax.bitcast_convert_type(scores, jnp.uint16).astype(jnp.uint32) << 16
    return lax.bitcast_convert_type(lax.convert_element_type(scores, dtype), unsigned)
