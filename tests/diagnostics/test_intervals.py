"""Intervals by Student's t, against tables."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import diagnostics
from jaxticket.errors import InputError

# Quantiles of Student's t with 3 degrees of freedom, as printed in tables.
TABLE = {0.9: 2.353363, 0.95: 3.182446, 0.99: 5.840909}


@pytest.mark.parametrize("confidence", TABLE)
def test_the_half_width_is_students(confidence):
    values = [0.1, 0.2, 0.4, 0.3]
    found = diagnostics.interval(values, confidence=confidence)
    assert found.mean == pytest.approx(0.25)
    assert found.half_width == pytest.approx(TABLE[confidence] * np.std(values, ddof=1) / 2, rel=1e-6)
    assert (found.low, found.high) == (found.mean - found.half_width, found.mean + found.half_width)


def test_one_replicate_claims_nothing():
    mean, half_width = diagnostics.interval([0.5])
    assert mean == 0.5
    assert math.isnan(half_width)
    one, many = diagnostics.interval([0.9]), diagnostics.interval([0.1, 0.2, 0.1])
    assert not one.low > many.high


def test_arrays_are_taken():
    assert diagnostics.interval(jnp.array([1.0, 3.0])).mean == 2


@pytest.mark.parametrize("values", [[math.nan], [1.0, math.nan, 2.0], [1.0, math.inf], [math.inf, -math.inf]])
def test_a_training_that_diverged_leaves_no_mean(values):
    assert all(map(math.isnan, diagnostics.interval(values)))


def test_errors():
    with pytest.raises(InputError, match="values is empty"):
        diagnostics.interval([])
    for confidence in (0, 1, 95, math.nan):
        with pytest.raises(InputError, match="confidence="):
            diagnostics.interval([1.0, 2.0], confidence=confidence)
