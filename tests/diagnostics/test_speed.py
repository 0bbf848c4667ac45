"""Steps to an accuracy, and the early-stopping step."""

import math

import pytest

from jaxticket.diagnostics import early_stopping_step, steps_to_reach
from jaxticket.errors import InputError

STEPS = [10, 20, 50, 80]


@pytest.mark.parametrize(
    ("target", "values", "step"),
    [
        (0.5, [0.5, 0.6, 0.7, 0.8], 10),  # reached is at least
        (0.65, [0.5, 0.6, 0.7, 0.8], 50),
        (0.65, [0.5, 0.7, 0.6, 0.8], 20),  # the first time, also if it falls again
        (0.81, [0.5, 0.6, 0.7, 0.8], None),
        (0.5, [math.nan, 0.6, math.nan, 0.8], 20),
        (math.nan, [0.5, 0.6, 0.7, 0.8], None),
        (-0.3, [-0.9, -0.5, -0.3, -0.1], 50),  # a loss
    ],
)
def test_steps_to_reach(target, values, step):
    assert steps_to_reach(target, steps=STEPS, values=values) == step


@pytest.mark.parametrize(
    ("losses", "step"),
    [([0.9, 0.4, 0.3, 0.5], 50), ([0.9, 0.3, 0.3, 0.5], 20), ([math.nan, math.inf, 0.7, math.nan], 50)],
)
def test_early_stopping(losses, step):
    assert early_stopping_step(steps=STEPS, losses=losses) == step


@pytest.mark.parametrize(
    ("steps", "values", "message"),
    [
        ([], [], "at least one"),
        ([1, 2], [0.5], "one value a step"),
        ([[1, 2]], [[0.5, 0.5]], "one value a step"),
        ([1, 1], [0.5, 0.5], "must rise"),
        ([2, 1], [0.5, 0.5], "must rise"),
    ],
)
def test_histories_that_are_none(steps, values, message):
    with pytest.raises(InputError, match=message):
        steps_to_reach(0.5, steps=steps, values=values)
    with pytest.raises(InputError, match=message):
        early_stopping_step(steps=steps, losses=values)


def test_a_training_that_diverged_has_no_early_stopping_step():
    with pytest.raises(InputError, match="all NaN"):
        early_stopping_step(steps=[1, 2], losses=[math.nan, math.nan])
