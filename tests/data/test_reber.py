"""Strings of the Reber grammar: what is valid, and splits that never mix."""

import numpy as np
import pytest

from jaxticket import data
from jaxticket.errors import InputError

VALID = ("BPTVPXTTVVE", "BTSXXTTTTVVE", "BTSSXXTTVVE", "BTXXVPXTVVE", "BPTTTTTVPSE")
INVALID = ("BTTVPXTVPSE", "BPSXXTTTVPSE", "BPSSSXXTVVE", "BTTTVPXTVVE", "BTSXE", "", "B", "BPVVEE", "PVVE")


def strings(split):
    return ["".join(map(chr, row)).rstrip("\0") for row in np.asarray(split.x)]


@pytest.mark.parametrize("letters", [*VALID, *INVALID])
def test_published_strings(letters):
    assert data.is_reber(letters) == (letters in VALID)


def test_labels_and_splits():
    dataset = data.reber(seed=1, train=60, validation=20, test=30, longest=25)
    drawn = {name: strings(split) for name, split in dataset._asdict().items()}
    for name, split in dataset._asdict().items():
        assert split.x.shape[1] == 25
        assert [int(data.is_reber(letters)) for letters in drawn[name]] == split.y.tolist()
        assert int(split.y.sum()) == len(split.y) // 2
        assert all(letters[0] == "B" and letters[-1] == "E" and len(letters) >= 11 for letters in drawn[name])
    whole = [letters for own in drawn.values() for letters in own]
    assert len(set(whole)) == len(whole) == 110


def test_the_seed_decides_the_strings():
    sizes = {"train": 10, "validation": 2, "test": 2}
    assert strings(data.reber(seed=0, **sizes).train) == strings(data.reber(seed=0, **sizes).train)
    assert strings(data.reber(seed=0, **sizes).train) != strings(data.reber(seed=1, **sizes).train)


def test_lengths_tell_nothing():
    split = data.reber(seed=0, train=400, longest=30).train
    lengths = np.asarray((split.x != 0).sum(axis=1))
    labels = np.asarray(split.y)
    np.testing.assert_array_equal(np.sort(lengths[labels == 1]), np.sort(lengths[labels == 0]))


@pytest.mark.parametrize("options", [{"train": 0}, {"test": -1}, {"longest": 14}, {"longest": 15, "train": 10_000}])
def test_bad_sizes(options):
    with pytest.raises(InputError, match="|".join(options)):
        data.reber(seed=0, **options)
