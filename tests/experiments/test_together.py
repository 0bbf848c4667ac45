"""Searches that train side by side: each gets its own results, and none waits for one that is done or broken."""

import time

import jax
import jax.numpy as jnp
import pytest

from experiments.training.together import Together
from jaxticket.training import Fitted


def fit_all(calls):
    """Adds the steps to every parameter, and counts what it was called with."""

    def fit(params, state, mask, key, *, step, steps, opt_state):
        calls.append((params["w"].shape[0], step, steps))
        return Fitted({"w": params["w"] + steps}, state, None, params["w"].tolist())

    return fit


def search(fit, start, trainings):
    """Trains for each number of steps; 0 stands for a level that is loaded."""
    params = {"w": jnp.float32(start)}
    for steps in trainings:
        if steps:
            fitted = fit(params, None, {"w": None}, jax.random.key(0), step=0, steps=steps, opt_state=None)
            params = fitted.params
        yield float(params["w"])


def advance(plans, calls):
    together = Together(fit_all(calls), len(plans))
    return together.advance([search(together.fit_of(i), 100 * i, plan) for i, plan in enumerate(plans)])


def test_trainings_that_are_alike_become_one_call():
    calls = []
    assert list(advance([[1, 2], [1, 2], [1, 2]], calls)) == [1, 101, 201, 3, 103, 203]
    assert calls == [(3, 0, 1), (3, 0, 2)]


def test_lanes_are_in_the_order_of_the_searches_however_the_threads_run():
    seen = []

    def fit(params, state, mask, key, *, step, steps, opt_state):
        seen.append(params["w"].tolist())
        return Fitted(params, state, None, params["w"].tolist())

    together = Together(fit, 4)

    def late(index):
        time.sleep(0.05 * (3 - index))
        yield from search(together.fit_of(index), index, [1])

    list(together.advance([late(index) for index in range(4)]))
    assert seen == [[0, 1, 2, 3]]


def test_others_and_absent_ones_take_lanes_of_the_same_program():
    calls = []
    assert list(advance([[0, 1], [5, 1], [7, 0]], calls)) == [0, 105, 207, 1, 106, 207]
    assert sorted(calls[:2]) == [(3, 0, 5), (3, 0, 7)]
    assert calls[2:] == [(3, 0, 1)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_training_ends_every_search(error):
    def fit(*args, **kwargs):
        raise error("stop")

    together = Together(fit, 2)
    searches = [search(together.fit_of(i), i, [1]) for i in range(2)]
    with pytest.raises(error, match="stop"):
        list(together.advance(searches))


def test_an_error_in_one_search_is_raised_when_the_others_have_trained():
    calls = []
    together = Together(fit_all(calls), 2)

    def broken():
        raise OSError("disk full")
        yield

    with pytest.raises(OSError, match="disk full"):
        list(together.advance([broken(), search(together.fit_of(1), 0, [1, 1])]))
    assert len(calls) == 1
