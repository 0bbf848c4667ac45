"""CIFAR from files of JPEGs, made here; and the real ones where they lie beside the repository."""

import hashlib
import io
import itertools
import sys

import numpy as np
import pytest
from PIL import Image

from jaxticket.data import cifar10, cifar100, read_jpegs
from jaxticket.errors import InputError, MissingExtraError


def jpegs(levels):
    """Grey images, one level each, encoded one after the other, and where each begins and the last one ends."""
    files = []
    for level in levels:
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (level, level, level)).save(file, "jpeg", quality=100)
        files.append(file.getvalue())
    return np.frombuffer(b"".join(files), np.uint8), np.cumsum([0, *map(len, files)])


@pytest.fixture
def content():
    """Forty training images and ten test images, whose levels are 2, 4, 6 … 100; the class is half the level mod 5."""
    levels = np.arange(2, 102, 2)
    parts = {"train": levels[:40], "test": levels[40:]}
    arrays = {}
    for part, chosen in parts.items():
        arrays[f"{part}_jpeg"], arrays[f"{part}_offsets"] = jpegs(chosen)
        arrays[f"{part}_labels"] = (chosen // 2 % 5).astype(np.uint8)
    return arrays


@pytest.mark.parametrize(("name", "load"), [("cifar10", cifar10), ("cifar100", cifar100)])
def test_all_images_reach_their_splits(tmp_path, content, name, load):
    np.savez(tmp_path / f"{name}_jpeg.npz", **content)
    data = load(seed=0, validation=10, folder=tmp_path)
    assert [split.x.shape for split in data] == [(30, 32, 32, 3), (10, 32, 32, 3), (10, 32, 32, 3)]
    scale, shift = np.polyfit(np.asarray(data.test.x)[:, 0, 0, 0], np.arange(82, 102, 2), 1)
    for split in data:
        restored = np.round(np.asarray(split.x) * scale + shift).astype(int)
        levels = restored[:, 0, 0, 0]
        np.testing.assert_array_equal(restored, np.broadcast_to(levels[:, None, None, None], restored.shape))
        np.testing.assert_array_equal(levels // 2 % 5, split.y)
    seen = [set(np.round(np.asarray(s.x)[:, 0, 0, 0] * scale + shift).astype(int)) for s in data]
    assert seen[0] | seen[1] == set(range(2, 82, 2))
    assert seen[2] == set(range(82, 102, 2))


def test_some_images_as_they_are(tmp_path, content):
    file = tmp_path / "cifar10_jpeg.npz"
    np.savez(file, **content)
    images, labels = read_jpegs(file, "test", rows=[3, 0])
    assert images.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(images[:, 0, 0, 0], [88, 82])
    np.testing.assert_array_equal(labels, [4, 1])
    for rows in ([10], [-1], []):
        with pytest.raises(InputError, match="has 10 images"):
            read_jpegs(file, "test", rows=rows)
    with pytest.raises(InputError, match=r"absent\.npz"):
        read_jpegs(tmp_path / "absent.npz", "test")


def test_a_missing_set_says_how_to_get_it(tmp_path):
    with pytest.raises(InputError) as error:
        cifar10(seed=0, folder=tmp_path)
    for part in ("cifar10_jpeg.npz", "folder=", "tfds"):
        assert part in str(error.value)


def test_without_pillow(tmp_path, content, monkeypatch):
    np.savez(tmp_path / "cifar10_jpeg.npz", **content)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"pillow is not installed.*jaxticket\[data\]"):
        cifar10(seed=0, folder=tmp_path)


def test_damaged_files_are_named(tmp_path, content):
    file = tmp_path / "cifar10_jpeg.npz"
    cut = content["train_jpeg"][:-9]
    for damage in ({"train_jpeg": cut}, {"train_labels": content["train_labels"][:5]}, {"test_jpeg": 0 * cut}):
        np.savez(file, **{**content, **damage})
        with pytest.raises(InputError, match=r"cifar10_jpeg.npz is damaged"):
            cifar10(seed=0, validation=10, folder=tmp_path)
    np.savez(file, **{key: value for key, value in content.items() if key != "test_labels"})
    with pytest.raises(InputError, match="test_labels"):
        cifar10(seed=0, validation=10, folder=tmp_path)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"cifar10_jpeg.npz is damaged"):
        cifar10(seed=0, validation=10, folder=tmp_path)


def test_no_real_file_is_in_two_splits(shared_data):
    with np.load(shared_data / "cifar10_jpeg.npz") as content:
        hashes = {}
        for part in ("train", "test"):
            packed, offsets = content[f"{part}_jpeg"], content[f"{part}_offsets"]
            rows = [packed[start:end] for start, end in itertools.pairwise(offsets)]
            hashes[part] = {hashlib.sha256(row).digest() for row in rows}
    assert not hashes["train"] & hashes["test"]


@pytest.mark.slow
def test_the_real_set(shared_data):
    data = cifar10(seed=0, folder=shared_data)
    assert [split.x.shape for split in data] == [(45_000, 32, 32, 3), (5_000, 32, 32, 3), (10_000, 32, 32, 3)]
    for split in data:
        np.testing.assert_array_equal(np.bincount(split.y), len(split.y) // 10)
    np.testing.assert_allclose(data.train.x.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(data.train.x.std((0, 1, 2)), 1, atol=1e-3)
    contents = [{image.tobytes() for image in np.asarray(split.x)} for split in data]
    assert len(set.union(*contents)) == 60_000
