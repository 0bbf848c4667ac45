"""Counts beyond 2^31, checked against Python integers."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxticket import scopes
from jaxticket.errors import InputError
from jaxticket.selection import _counting, select
from tests.selection import oracle

SIZES = st.integers(0, 2**45)


def number(count: _counting.Count) -> int:
    digits = [int(np.sum(digit)) for digit in count]
    return digits[0] * 2**30 + digits[1] if len(digits) == 2 else digits[0]


@given(SIZES, SIZES)
def test_two_digit_arithmetic(a, b):
    x, y = _counting.of_int(a, 2), _counting.of_int(b, 2)
    assert number(x) == a
    assert number(_counting.add(x, y)) == a + b
    assert bool(_counting.at_least(x, y)) == (a >= b)
    assert number(_counting.subtract(_counting.add(x, y), y)) == a
    assert number(_counting.minimum(x, y)) == min(a, b)


@given(st.floats(0, 2**45, width=32))
def test_whole_floats_convert_exactly(value):
    assert number(_counting.of_float(jnp.float32(np.floor(value)), 2)) == int(np.floor(value))


@pytest.mark.parametrize("limit", [64, 1 << 10])
def test_the_two_step_sum_equals_the_plain_one(monkeypatch, limit):
    """With the int32 limit lowered, arrays that fit in memory take the path of those that do not."""
    monkeypatch.setattr(_counting, "_INT32", limit)
    values = np.random.default_rng(0).random((12, 13, 50)) < 0.7
    [plain] = _counting.count([jnp.asarray(values)], (0, 1, 2), digits=2)
    assert number(plain) == int(values.sum())


def test_an_axis_beyond_the_limit_is_named(monkeypatch):
    monkeypatch.setattr(_counting, "_INT32", 8)
    with pytest.raises(InputError, match="an axis of scores has 9 entries"):
        _counting.count([jnp.ones(9, bool)], (0,), digits=1)


@pytest.mark.parametrize("scope", [scopes.tree(), scopes.leaf(), scopes.slices(0)], ids=repr)
def test_selection_with_two_digit_counts_is_still_exact(monkeypatch, scope):
    """With the limit lowered, whole selections count in two digits; ties on equal scores need both bisections."""
    monkeypatch.setattr(_counting, "_INT32", 128)
    rng = np.random.default_rng(1)
    scores = {  # of shapes that no other test has: no program compiled under the real limit may serve here
        "a": rng.integers(0, 5, (6, 9, 11)).astype(np.float32),
        "b": rng.integers(0, 5, (17, 13)).astype(np.float32),
    }
    mask = select(scores, jnp.float32(0.37), scope=scope)
    if scope.joint:
        together = np.concatenate([scores["a"].ravel(), scores["b"].ravel()])
        expected = oracle.top(together, oracle.count(0.37, together.size))
        np.testing.assert_array_equal(np.concatenate([np.ravel(mask["a"]), np.ravel(mask["b"])]), expected)
        return
    for name, values in scores.items():
        groups = [(values, mask[name])] if scope == scopes.leaf() else zip(values, mask[name], strict=True)
        for group, kept in groups:
            np.testing.assert_array_equal(kept, oracle.top(group, oracle.count(0.37, group.size)))
