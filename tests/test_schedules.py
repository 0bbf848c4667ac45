"""Schedules at every step: eager, under jit and under vmap."""

import dataclasses
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import schedules
from jaxticket.errors import InputError, StructureError

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden" / "schedules.json").read_text())
STEPS = np.arange(25)


def everywhere(schedule):
    """The values at STEPS, which must be the same eagerly, under jit and under vmap."""
    eager = np.array([schedule(int(t)) for t in STEPS])
    jitted = jax.jit(schedule)
    np.testing.assert_array_equal([jitted(jnp.int32(t)) for t in STEPS], eager)
    np.testing.assert_array_equal([schedule(t) for t in STEPS], eager)
    np.testing.assert_array_equal(jax.vmap(schedule)(jnp.asarray(STEPS, jnp.int32)), eager)
    return eager


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=3e-7)


def test_cubic_golden():
    schedule = schedules.cubic(1 - GOLDEN["final_sparsity"], start=GOLDEN["start"], stop=GOLDEN["stop"])
    sparsity = [1 - float(schedule(t)) for t in GOLDEN["steps"]]
    close(sparsity, GOLDEN["final_sparsity"] * np.array(GOLDEN["sparsity_over_final"]))


def test_cubic_every_step():
    values = everywhere(schedules.cubic(0.1, start=4, stop=20, initial=0.9))
    expected = 0.1 + 0.8 * (1 - np.clip((STEPS - 4) / 16, 0, 1)) ** 3
    close(values, expected)
    assert (values[:5] == np.float32(0.9)).all()
    assert (values[20:] == np.float32(0.1)).all()
    assert (np.diff(values) <= 0).all()


def test_cubic_of_no_length_is_one_shot():
    np.testing.assert_array_equal(
        everywhere(schedules.cubic(0.3, start=7, stop=7)), everywhere(schedules.one_shot(0.3, step=7))
    )


def test_cubic_far_from_zero():
    # float32 cannot tell these steps apart; int32 can.
    start = 2**30
    schedule = schedules.cubic(0.0, start=start, stop=start + 4)
    close([schedule(jnp.int32(start + i)) for i in range(5)], [(1 - i / 4) ** 3 for i in range(5)])
    assert schedule(jnp.int32(0)) == 1


def test_one_shot_and_constant():
    values = everywhere(schedules.one_shot(0.25, step=10))
    np.testing.assert_array_equal(values, np.where(STEPS < 10, 1, 0.25))
    assert (everywhere(schedules.one_shot(0.25, step=0)) == 0.25).all()
    assert schedules.constant(0.1)(3) == 0.1
    assert isinstance(schedules.constant(0.1)(jnp.int32(3)), float)


def test_a_pytree_of_final_densities():
    final = {"a": 0.1, "b": None, "c": 0.5}
    schedule = dataclasses.replace(schedules.cubic(0.2, start=0, stop=10), final=final)
    middle = jax.jit(schedule)(jnp.int32(5))
    assert middle["b"] is None
    close(middle["a"], 0.125 + 0.875 * 0.1)
    close(middle["c"], 0.125 + 0.875 * 0.5)
    back = schedules.cubic(0.2, start=0, stop=10, initial=final)
    assert back(0)["a"] == np.float32(0.1)
    assert back(10)["c"] == np.float32(0.2)
    both = dataclasses.replace(schedule, initial={"a": 1.0, "b": None, "c": 0.75})
    close(both(0)["c"], 0.75)
    with pytest.raises(StructureError, match="final"):
        dataclasses.replace(schedule, initial={"a": 1.0})(0)


def test_levels():
    np.testing.assert_allclose(schedules.levels(4), [1, 0.8, 0.64, 0.512])
    assert schedules.levels(1) == (1.0,)
    assert all(type(d) is float for d in schedules.levels(2))


def test_anneals():
    t = np.clip(STEPS / 16, 0, 1)
    cosine = everywhere(schedules.cosine(0.3, stop=16))
    close(cosine, 0.15 * (1 + np.cos(np.pi * t)))
    assert cosine[0] == np.float32(0.3)
    assert (cosine[16:] == 0).all()
    straight = everywhere(schedules.power(0.4, stop=16))
    close(straight, 0.4 * (1 - t))
    assert (straight[16:] == 0).all()
    close(everywhere(schedules.power(0.4, stop=16, exponent=3)), 0.4 * (1 - t) ** 3)
    assert (everywhere(schedules.fixed(0.5)) == 0.5).all()
    for schedule in (schedules.cosine(0.3, stop=16), schedules.power(0.3, stop=16), schedules.fixed(0.3)):
        assert schedule(3).dtype == jnp.float32
        assert schedule(3).shape == ()


def test_periods():
    def due(period):
        values = everywhere(period)
        assert values.dtype == bool
        return STEPS[values].tolist()

    assert due(schedules.every(10)) == [0, 10, 20]
    assert due(schedules.every(5, start=3, stop=18)) == [3, 8, 13, 18]
    assert due(schedules.every(5, start=3, stop=17)) == [3, 8, 13]
    assert due(schedules.every(1, start=24)) == [24]
    assert due(schedules.at([2, 11])) == [2, 11]
    assert due(schedules.at([])) == []
    assert due(schedules.either(schedules.every(10, start=5), schedules.at((5, 6)))) == [5, 6, 15]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: schedules.constant(1.1), "final"),
        (lambda: schedules.constant(math.nan), "final"),
        (lambda: schedules.constant({"a": 0.5, "b": -0.1}), "final"),
        (lambda: schedules.one_shot(0.5, step=-1), "step"),
        (lambda: schedules.cubic(0.5, start=0, stop=10, initial=2.0), "initial"),
        (lambda: schedules.cubic(0.5, start=-1, stop=10), "start"),
        (lambda: schedules.cubic(0.5, start=11, stop=10), "stop=10.*start=11"),
        (lambda: schedules.cubic(0.5, start=0, stop=10.5), "stop"),
        (lambda: schedules.levels(0), "n=0"),
        (lambda: schedules.levels(3, rate=0.0), "rate"),
        (lambda: schedules.levels(3, rate=1.0), "rate"),
        (lambda: schedules.cosine(1.5, stop=10), "initial"),
        (lambda: schedules.cosine(0.5, stop=0), "stop"),
        (lambda: schedules.power(-0.5, stop=10), "initial"),
        (lambda: schedules.power(0.5, stop=10, exponent=0), "exponent"),
        (lambda: schedules.fixed(2.0), "value"),
        (lambda: schedules.every(0), "n=0"),
        (lambda: schedules.every(10, start=-1), "start"),
        (lambda: schedules.every(10, start=5, stop=4), "stop=4.*start=5"),
        (lambda: schedules.at(5), r"at\(\[5\]\)"),
        (lambda: schedules.at([1, -2]), "steps"),
        (lambda: schedules.at([1.5]), "steps"),
    ],
)
def test_errors(make, name):
    with pytest.raises(InputError, match=name):
        make()
