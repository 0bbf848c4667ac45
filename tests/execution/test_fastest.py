"""The choice of a form: only what was measured to be faster, twice and beyond the noise, is called a saving."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from jaxticket import execution, scopes
from jaxticket.execution import _measure

KERNEL = jax.random.normal(jax.random.key(0), (16, 12))
MASK = jt.select(KERNEL, 0.5, scope=scopes.groups(4, axis=0))


class Clock:
    """Seconds for each call in place of a measurement: a sequence for each form and pass, repeated."""

    def __init__(self, monkeypatch, *passes):
        self.passes, self.asked = list(passes), []
        monkeypatch.setattr(_measure, "time_rounds", self)

    def __call__(self, calls, rounds):
        self.asked.append(set(calls))
        return {name: np.resize(self.passes[len(self.asked) - 1][name], rounds).tolist() for name in calls}


NOISE = [1.0, 1.1, 0.9, 1.05, 0.95]


@pytest.mark.parametrize(
    ("nm", "again", "chosen", "saving"),
    [
        ([0.5], [0.6], "nm", 0.4),  # the saving is the smaller of both
        ([0.7], [0.6], "nm", 0.3),
        ([0.5], [1.2], "dense", 0.0),  # not confirmed
        ([0.99], None, "dense", 0.0),  # within the noise of dense against itself
        ([0.5, 1.4], None, "dense", 0.0),  # faster in the median of few rounds, but not surely
        ([1.5], None, "dense", 0.0),
    ],
)
def test_a_saving_is_measured_twice(monkeypatch, nm, again, chosen, saving):
    first = {"dense": [1.0], "dense again": NOISE, "bcsr": [3.0], "nm": nm}
    clock = Clock(monkeypatch, first, {"dense": [1.0], "dense again": NOISE, "nm": again})
    choice = execution.measure(
        {name: packed for name, packed in execution.pack_all(KERNEL, MASK).items() if name in first}, batch=2, rounds=10
    )
    assert (choice.form, round(choice.saving, 6)) == (chosen, saving)
    assert choice.noise == (0.95, 1.05)
    assert choice.seconds == {name: pytest.approx(np.median(first[name])) for name in ("dense", "bcsr", "nm")}
    assert choice.packed.values.shape == ((16, 12) if chosen == "dense" else (4, 2, 12))
    assert clock.asked[1:] == ([] if again is None else [{"dense", "dense again", "nm"}])


def test_a_noise_above_dense_is_not_room_for_a_saving(monkeypatch):
    """Where the second dense product is slower throughout, a form between both is not faster than dense."""
    Clock(monkeypatch, {"dense": [1.0], "dense again": [1.5], "bcsr": [3.0], "nm": [1.2], "condensed": [2.0]})
    assert execution.fastest(KERNEL, MASK, batch=2, rounds=5).form == "dense"


@pytest.mark.parametrize("backward", [False, True])
def test_every_form_is_measured(backward):
    choice = execution.fastest(KERNEL, MASK, batch=3, backward=backward, rounds=2)
    assert list(choice.seconds) == ["dense", "bcsr", "nm", "condensed"]
    assert min(choice.seconds.values()) > 0
    assert choice.saving >= 0
    assert (choice.saving == 0) == (choice.form == "dense")
    np.testing.assert_allclose(choice.packed.dense(), jnp.where(MASK, KERNEL, 0))
    assert re.search(r"(?m)^ +nm +[\d.]+ +[\d.]+", str(choice))


SCORES = np.random.default_rng(0).normal(size=(64, 48))
TILES = np.kron(SCORES[:8, :12] > 0, np.ones((8, 4), bool))


@pytest.mark.parametrize(
    ("mask", "forms", "block"),
    [
        (SCORES > -3, {"dense", "bcsr"}, None),  # some group of each size keeps all
        (SCORES > 1, {"dense", "bcsr", "nm"}, None),
        (SCORES.argsort(0) < 16, {"dense", "bcsr", "nm", "condensed"}, None),
        (TILES, {"dense", "bcsr", "blocks"}, (8, 4)),
        (SCORES[:, :1] > 0, {"dense", "bcsr", "nm", "condensed", "blocks"}, (1, 48)),
        (SCORES[:1] > 0, {"dense", "bcsr", "blocks"}, (64, 1)),
    ],
)
def test_forms_that_a_mask_admits(mask, forms, block):
    packed = execution.pack_all(SCORES.astype(np.float32), mask)
    assert set(packed) == forms
    assert all(p.shape == (64, 48) for p in packed.values())
    if block is not None:
        assert packed["blocks"].block == block


def test_the_groups_are_those_that_store_least():
    mask = jnp.zeros((64, 8), bool).at[::16].set(True)
    packed = execution.pack_all(jnp.ones((64, 8)), mask)["nm"]
    assert packed.m == 16
    assert packed.values.shape == (4, 1, 8)
