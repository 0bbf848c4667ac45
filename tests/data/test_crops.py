"""Crops of photographs: which part is taken, how often, and at what size."""

import sys

import numpy as np
import pytest

from jaxticket.data import crops
from jaxticket.errors import InputError, MissingExtraError

pytest.importorskip("PIL")


def coordinates(height, width):
    """An image whose first channel is the row and whose second is the column of each pixel."""
    rows, columns = np.mgrid[:height, :width]
    return {"image": np.stack([rows, columns, np.zeros_like(rows)], -1).astype(np.uint8), "label": 7, "file_name": "a"}


def corners(image):
    """Of the part that a crop shows: its first and last row and column, to within a pixel."""
    rows, columns = (image[..., channel].astype(float) for channel in (0, 1))
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_random_parts_have_the_areas_and_ratios_asked_for():
    crop, rng = crops.random_resized(64), np.random.default_rng(0)
    found = [crop(coordinates(200, 160), rng) for _ in range(400)]
    assert {tuple(example) for example in found} == {("image", "label")}
    assert all(example["image"].shape == (64, 64, 3) and example["label"] == 7 for example in found)
    top, bottom, left, right = np.array([corners(example["image"]) for example in found]).T
    # The outermost pixels shown are averages over the scale of the resizing: up to two pixels from the edge.
    height, width = bottom - top + 2, right - left + 2
    share, ratio = height * width / (200 * 160), width / height
    assert 0.06 < share.min() < 0.14
    assert share.max() > 0.85
    assert abs(np.median(share) - 0.5) < 0.1
    assert 0.7 < ratio.min() < 0.8
    assert 1.2 < ratio.max() < 1.45
    assert top.min() <= 2
    assert bottom.max() >= 197
    mirrored = np.array([example["image"][0, 0, 1] > example["image"][0, -1, 1] for example in found])
    assert abs(mirrored.mean() - 0.5) < 0.1


def test_parts_of_whole_images_and_of_strips():
    rng = np.random.default_rng(0)
    whole = crops.random_resized(50, area=(1, 1), ratio=(1, 1))(coordinates(50, 50), rng)["image"]
    expected = coordinates(50, 50)["image"]
    assert any(np.array_equal(whole, image) for image in (expected, expected[:, ::-1]))
    # A strip holds no part of an allowed ratio and of most of its area: the centre, as wide as allowed.
    top, bottom, left, right = corners(crops.random_resized(30, area=(0.9, 1))(coordinates(30, 200), rng)["image"])
    assert (top, bottom) == (0, 29)
    assert abs(left - 80) <= 1
    assert abs(right - 119) <= 1
    top, bottom, *_ = corners(crops.random_resized(30, area=(0.9, 1))(coordinates(200, 30), rng)["image"])
    assert abs(top - 80) <= 1
    assert abs(bottom - 119) <= 1


def test_equal_generators_give_equal_parts():
    crop, example = crops.random_resized(16), coordinates(40, 60)
    first, again, other = (crop(example, np.random.default_rng(seed))["image"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_centre():
    assert corners(crops.centre(36, share=0.9)(coordinates(40, 60))["image"]) == (2, 37, 12, 47)
    np.testing.assert_array_equal(crops.centre(40, share=1)(coordinates(40, 40))["image"], coordinates(40, 40)["image"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: crops.random_resized(0), "size=0"),
        (lambda: crops.centre(-1), "size=-1"),
        (lambda: crops.centre(8, share=1.5), "share=1.5"),
        (lambda: crops.random_resized(8, area=(0.5, 0.1)), "area="),
        (lambda: crops.random_resized(8, area=(0.5, 2)), "area="),
        (lambda: crops.random_resized(8, ratio=(0, 1)), "ratio="),
    ],
)
def test_bad_sizes(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match="pillow is not installed"):
        crops.centre(8)
