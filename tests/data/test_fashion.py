"""Fashion-MNIST from IDX files, made here; and the real ones where Debian's package has put them."""

import gzip
import struct

import numpy as np
import pytest

from jaxticket.data import _fashion, fashion_mnist
from jaxticket.errors import InputError

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def arrays():
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8)
    labels = (np.arange(60) % 10).astype(np.uint8)
    return images[:40], labels[:40], images[40:], labels[40:]


@pytest.fixture
def folder(tmp_path, arrays):
    for name, array in zip(NAMES, arrays, strict=True):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path


def test_all_images_reach_their_splits(folder, arrays):
    data = fashion_mnist(seed=0, validation=10, folder=folder)
    assert [split.x.shape for split in data] == [(30, 784), (10, 784), (20, 784)]
    np.testing.assert_array_equal(data.test.y, arrays[3])
    np.testing.assert_array_equal(np.bincount(data.validation.y), np.ones(10))
    # The one shift and scale that normalised the test images takes every other image back to bytes of the files.
    x = np.asarray(data.test.x, np.float64)
    scale, shift = np.polyfit(x.ravel(), arrays[2].ravel(), 1)
    restored = [np.round(np.asarray(split.x) * scale + shift).astype(np.uint8) for split in data]
    np.testing.assert_array_equal(restored[2], arrays[2].reshape(20, 784))
    by_content = {image.tobytes(): label for image, label in zip(arrays[0], arrays[1], strict=True)}
    rows = np.concatenate(restored[:2])
    assert {row.tobytes() for row in rows} == set(by_content)
    np.testing.assert_array_equal(
        [by_content[row.tobytes()] for row in rows], np.concatenate([data.train.y, data.validation.y])
    )


def test_unpacked_files_are_the_same(folder, arrays):
    packed = fashion_mnist(seed=0, validation=10, folder=folder)
    for name, array in zip(NAMES, arrays, strict=True):
        (folder / f"{name}.gz").unlink()
        (folder / name).write_bytes(idx(array))
    unpacked = fashion_mnist(seed=0, validation=10, folder=str(folder))
    np.testing.assert_array_equal(packed.train.x, unpacked.train.x)


def test_without_a_folder_the_packaged_files_are_read(folder, monkeypatch):
    monkeypatch.setattr(_fashion, "DEBIAN", folder)
    named, packaged = fashion_mnist(seed=0, validation=10, folder=folder), fashion_mnist(seed=0, validation=10)
    np.testing.assert_array_equal(named.test.x, packaged.test.x)


def test_a_missing_set_says_how_to_get_it(tmp_path):
    with pytest.raises(InputError) as error:
        fashion_mnist(seed=0, folder=tmp_path)
    for part in ("dataset-fashion-mnist", "folder=", "tfds"):
        assert part in str(error.value)


def test_damaged_files_are_named(folder, arrays):
    labels = folder / f"{NAMES[1]}.gz"
    whole = labels.read_bytes()
    content = idx(arrays[1])
    contents = (content[:-1], content + b"0", b"1" + content, content[:6], content[:3], b"")
    for damaged in (whole[:30], whole[:20] + b"0000" + whole[24:], *map(gzip.compress, contents)):
        labels.write_bytes(damaged)
        with pytest.raises(InputError, match="train-labels-idx1-ubyte is damaged"):
            fashion_mnist(seed=0, validation=10, folder=folder)
    labels.unlink()
    with pytest.raises(InputError, match=r"train-labels-idx1-ubyte is missing"):
        fashion_mnist(seed=0, validation=10, folder=folder)


def test_the_real_set():
    if not _fashion.DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    data = fashion_mnist(seed=0)
    assert [split.x.shape for split in data] == [(55_000, 784), (5_000, 784), (10_000, 784)]
    for split in data:
        counts = np.bincount(split.y, minlength=10)
        assert counts.max() - counts.min() <= 1
    contents = [{image.tobytes() for image in np.asarray(split.x)} for split in data]
    assert len(set.union(*contents)) == 70_000
