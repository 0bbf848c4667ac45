"""Counts of leaves of any size without 64-bit integers (JAX has none by default).

A count is a tuple of int32 arrays, most significant first: one digit where the group has fewer than 2^31 entries, two
digits of base 2^30 where it may have more.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxticket.errors import InputError

Count = tuple[jax.Array, ...]

_DIGIT_BITS = 30
_DIGIT = 1 << _DIGIT_BITS
_INT32 = 1 << 31


def digits_for(size: int) -> int:
    """Return the number of digits that a count of up to `size` entries needs."""
    return 1 if size < _INT32 else 2


def of_int(value: int | np.ndarray, digits: int) -> Count:
    """Convert a host integer (or array of them) to a count."""
    value = np.asarray(value, np.int64)
    split = (value,) if digits == 1 else (value >> _DIGIT_BITS, value & (_DIGIT - 1))
    return tuple(jnp.asarray(digit, jnp.int32) for digit in split)


def of_float(value: jax.Array, digits: int) -> Count:
    """Convert a whole, non-negative float32 to a count, exactly."""
    if digits == 1:
        return (value.astype(jnp.int32),)
    high = jnp.floor(value / _DIGIT)
    return (high.astype(jnp.int32), (value - high * _DIGIT).astype(jnp.int32))


def scale(count: Count, fraction: float | jax.Array) -> Count:
    """Return round-half-even(fraction · count), the product in float32, for a fraction in [0, 1]."""
    value = count[0].astype(jnp.float32)
    if len(count) == 2:
        value = value * _DIGIT + count[1].astype(jnp.float32)
    return of_float(jnp.round(fraction * value), len(count))


def scale_down(count: Count, fraction: float | jax.Array) -> Count:
    """Return count − ceil(fraction · count), for a fraction in [0, 1]; the product is in float32.

    A product that only the rounding of the fraction to float32 lifts above a whole number counts as that number.
    """
    value = count[0].astype(jnp.float32)
    if len(count) == 2:
        value = value * _DIGIT + count[1].astype(jnp.float32)
    taken = of_float(jnp.ceil(fraction * value * (1 - 2.0**-22)), len(count))
    return subtract(count, minimum(taken, count))


def at_least(a: Count, b: Count) -> jax.Array:
    """Return a ≥ b."""
    if len(a) == 1:
        return a[0] >= b[0]
    return (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] >= b[1]))


def equal(a: Count, b: Count) -> jax.Array:
    """Return a = b."""
    return a[0] == b[0] if len(a) == 1 else (a[0] == b[0]) & (a[1] == b[1])


def add(a: Count, b: Count) -> Count:
    """Return a + b."""
    if len(a) == 1:
        return (a[0] + b[0],)
    low = a[1] + b[1]
    return (a[0] + b[0] + (low >> _DIGIT_BITS), low & (_DIGIT - 1))


def subtract(a: Count, b: Count) -> Count:
    """Return a − b, for a ≥ b."""
    if len(a) == 1:
        return (a[0] - b[0],)
    low = a[1] - b[1]
    return (a[0] - b[0] + (low >> _DIGIT_BITS), low & (_DIGIT - 1))


def choose(condition: jax.Array, a: Count, b: Count) -> Count:
    """Return where(condition, a, b)."""
    return tuple(jnp.where(condition, x, y) for x, y in zip(a, b, strict=True))


def minimum(a: Count, b: Count) -> Count:
    """Return the smaller of both."""
    return choose(at_least(a, b), b, a)


def count(predicates: Sequence[jax.Array], axes: Sequence[int], digits: int) -> list[Count]:
    """Count the entries along `axes` that satisfy each predicate, all in one pass (the axes are kept, with size 1).

    The predicates share one shape. Axes whose product passes 2^31 are summed in two steps, the second on bit fields
    that cannot overflow.
    """
    shape = predicates[0].shape
    inner, outer = _split_axes(shape, axes)
    partial = _sum_together([lax.convert_element_type(p, jnp.int32) for p in predicates], inner)
    if not outer:
        return [_widen(c, digits) for c in partial]
    width = _DIGIT_BITS - math.prod(shape[a] for a in outer).bit_length()
    counts = []
    for c in partial:
        fields = [(c >> shift) & ((1 << width) - 1) for shift in range(0, 31, width)]
        counts.append(_recombine(_sum_together(fields, outer), width))
    return counts


def _split_axes(shape: Sequence[int], axes: Sequence[int]) -> tuple[list[int], list[int]]:
    inner: list[int] = []
    outer: list[int] = []
    size = 1
    for axis in sorted(axes, key=lambda a: shape[a], reverse=True):
        if shape[axis] >= _INT32:
            raise InputError(f"an axis of scores has {shape[axis]} entries; 2^31 - 1 is the limit: reshape the leaf.")
        if size * shape[axis] < _INT32:
            inner.append(axis)
            size *= shape[axis]
        else:
            outer.append(axis)
    return inner, outer


def _sum_together(operands: Sequence[jax.Array], axes: Sequence[int]) -> list[jax.Array]:
    """Sum all operands by one variadic reduce: several separate reductions would each read the operands again."""
    summed = lax.reduce(tuple(operands), tuple(np.int32(0) for _ in operands), _add_each, tuple(axes))
    return [lax.expand_dims(s, tuple(sorted(axes))) for s in summed]


def _add_each(xs: Sequence[jax.Array], ys: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    """Add pairwise. It is a function of the module, since jax traces each new computation of a reduce again."""
    return tuple(lax.add(x, y) for x, y in zip(xs, ys, strict=True))


def _widen(c: jax.Array, digits: int) -> Count:
    return (c,) if digits == 1 else (c >> _DIGIT_BITS, c & (_DIGIT - 1))


def _recombine(fields: Sequence[jax.Array], width: int) -> Count:
    total: Count = (jnp.zeros_like(fields[0]), jnp.zeros_like(fields[0]))
    for position, field in enumerate(fields):
        shift = width * position
        if shift >= _DIGIT_BITS:
            total = add(total, (field << (shift - _DIGIT_BITS), jnp.zeros_like(field)))
        else:
            low = (field & ((1 << (_DIGIT_BITS - shift)) - 1)) << shift
            total = add(total, (field >> (_DIGIT_BITS - shift), low))
    return total
