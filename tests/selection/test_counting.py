"""Counts beyond 2^31, checked against Python integers."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxticket.errors import InputError
from jaxticket.selection import counting

SIZES = st.integers(0, 2**45)


def number(count: counting.Count) -> int:
    digits = [int(np.sum(digit)) for digit in count]
    return digits[0] * 2**30 + digits[1] if len(digits) == 2 else digits[0]


@given(SIZES, SIZES)
def test_two_digit_arithmetic(a, b):
    x, y = counting.of_int(a, 2), counting.of_int(b, 2)
    assert number(x) == a
    assert number(counting.add(x, y)) == a + b
    assert bool(counting.at_least(x, y)) == (a >= b)
    assert number(counting.subtract(counting.add(x, y), y)) == a
    assert number(counting.minimum(x, y)) == min(a, b)


@given(st.floats(0, 2**45, width=32))
def test_whole_floats_convert_exactly(value):
    assert number(counting.of_float(jnp.float32(np.floor(value)), 2)) == int(np.floor(value))


@pytest.mark.parametrize("limit", [64, 1 << 10])
def test_the_two_step_sum_equals_the_plain_one(monkeypatch, limit):
    """With the int32 limit lowered, arrays that fit in memory take the path of those that do not."""
    monkeypatch.setattr(counting, "_INT32", limit)
    values = np.random.default_rng(0).random((12, 13, 50)) < 0.7
    [plain] = counting.count([jnp.asarray(values)], (0, 1, 2), digits=2)
    assert number(plain) == int(values.sum())


def test_an_axis_beyond_the_limit_is_named(monkeypatch):
    monkeypatch.setattr(counting, "_INT32", 8)
    with pytest.raises(InputError, match="an axis of scores has 9 entries"):
        counting.count([jnp.ones(9, bool)], (0,), digits=1)
