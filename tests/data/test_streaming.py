"""Streams: each epoch every example once, in an order that the seed decides and a saved state continues."""

import itertools
import json
import sys

import numpy as np
import pytest

from jaxticket.data import stream
from jaxticket.errors import InputError, MissingExtraError

pytest.importorskip("grain")

SOURCE = [{"x": np.full(3, i), "y": i} for i in range(11)]


def labels(batches, count):
    return np.array([batch["y"] for batch in itertools.islice(batches, count)])


def test_epochs_hold_each_example_at_most_once_in_another_order():
    epochs = labels(stream(SOURCE, batch_size=3, seed=0), 30).reshape(10, 9)
    for epoch in epochs:
        assert len(set(epoch)) == 9
    assert len(set(map(tuple, epochs))) == 10
    assert set(epochs.flat) == set(range(11))  # not the same two are dropped each time


def test_batches_keep_examples_together():
    batch = next(stream(SOURCE, batch_size=4, seed=0))
    assert batch["x"].shape == (4, 3)
    np.testing.assert_array_equal(batch["x"][:, 0], batch["y"])


def test_the_seed_decides():
    first, again, other = (labels(stream(SOURCE, batch_size=3, seed=seed), 6) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def noisy(example, rng):
    return {**example, "noise": rng.integers(1 << 30)}


@pytest.mark.parametrize("done", [0, 2, 3, 7])
def test_a_saved_state_continues_with_the_same_batches(done):
    batches = stream(SOURCE, batch_size=3, seed=0, transform=noisy)
    labels(batches, done)
    state = json.loads(json.dumps(batches.get_state()))
    rest = list(itertools.islice(batches, 5))
    resumed = stream(SOURCE, batch_size=3, seed=0, transform=noisy)
    resumed.set_state(state)
    for expected, batch in zip(rest, resumed, strict=False):
        np.testing.assert_array_equal(batch["y"], expected["y"])
        np.testing.assert_array_equal(batch["noise"], expected["noise"])


def test_random_transforms_differ_from_example_to_example_and_epoch_to_epoch():
    batches = stream(SOURCE, batch_size=3, seed=0, transform=noisy)
    noise = np.concatenate([batch["noise"] for batch in itertools.islice(batches, 9)])
    assert len(set(noise.tolist())) == 27


def test_bad_batch_sizes():
    for size in (0, 12):
        with pytest.raises(InputError, match=f"batch_size={size} must lie between 1 and the 11"):
            stream(SOURCE, batch_size=size, seed=0)


def test_without_grain(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(MissingExtraError, match=r"grain is not installed.*jaxticket\[data\]"):
        stream(SOURCE, batch_size=3, seed=0)
