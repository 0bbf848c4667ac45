"""Streams: each epoch every example once, in an order that the seed decides and a saved state continues."""

import itertools
import json
import sys

import numpy as np
import pytest

from jaxticket.data import Part, one_pass, stream
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


@pytest.mark.parametrize("count", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_the_order_does_not_depend_on_the_number_of_processes(count):
    whole = stream(SOURCE, batch_size=4, seed=0, transform=noisy)
    parts = [stream(SOURCE, batch_size=4, seed=0, transform=noisy, part=Part(i, count)) for i in range(count)]
    for _ in range(5):  # two batches an epoch: across its ends
        expected, found = next(whole), [next(part) for part in parts]
        for name in ("x", "y", "noise"):
            np.testing.assert_array_equal(np.concatenate([batch[name] for batch in found]), expected[name])
    states = [batches.get_state() for batches in (whole, *parts)]
    assert all(state == states[0] for state in states)


def test_a_state_of_two_processes_continues_in_one():
    halves = [stream(SOURCE, batch_size=4, seed=0, part=Part(i, 2)) for i in range(2)]
    for half in halves:
        labels(half, 3)
    whole = stream(SOURCE, batch_size=4, seed=0)
    whole.set_state(json.loads(json.dumps(halves[1].get_state())))
    for _ in range(3):
        np.testing.assert_array_equal(np.concatenate([next(half)["y"] for half in halves]), next(whole)["y"])


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("examples", [1, 8, 11])
def test_one_pass_holds_each_example_once(examples, count):
    passes = [list(one_pass(SOURCE[:examples], batch_size=4, part=Part(i, count))) for i in range(count)]
    assert {len(batches) for batches in passes} == {-(-examples // 4)}
    seen = []
    for parts in zip(*passes, strict=True):
        for batch, valid in parts:
            assert len(batch["y"]) == len(valid) == 4 // count
            np.testing.assert_array_equal(batch["y"][~valid], 0)
            seen += batch["y"][valid].tolist()
    assert seen == list(range(examples))


def test_one_pass_transforms_examples():
    ((batch, _),) = one_pass(SOURCE[:2], batch_size=2, transform=lambda example: {"z": example["y"] + 5})
    assert batch["z"].tolist() == [5, 6]


def test_bad_parts_and_passes():
    for part in (Part(2, 2), Part(-1, 2), Part(0, 3), Part(0, 0)):
        with pytest.raises(InputError, match=r"Part\(index=-?\d, count=\d\).* batch_size=4"):
            stream(SOURCE, batch_size=4, seed=0, part=part)
    for source, size in ((SOURCE, 0), ([], 1)):
        with pytest.raises(InputError, match=f"batch_size={size} and the source of {len(source)} examples"):
            next(one_pass(source, batch_size=size))


def test_bad_batch_sizes():
    for size in (0, 12):
        with pytest.raises(InputError, match=f"batch_size={size} must lie between 1 and the 11"):
            stream(SOURCE, batch_size=size, seed=0)


def test_without_grain(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(MissingExtraError, match=r"grain is not installed.*jaxticket\[data\]"):
        stream(SOURCE, batch_size=3, seed=0)
