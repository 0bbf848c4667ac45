"""Fashion-MNIST: from its IDX files, or through tfds."""

import gzip
import pathlib
import zlib

import numpy as np

from jaxticket.data._dataset import Arrays, Dataset, carve_validation
from jaxticket.data._tfds import Folder, train_and_test
from jaxticket.errors import InputError

DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")  # where its package dataset-fashion-mnist puts the files
_UNSIGNED_BYTES = 8  # the code of this type in the header of an IDX file


def fashion_mnist(*, seed: int, validation: int = 5000, folder: Folder = None) -> Dataset:
    """Load Fashion-MNIST, 70,000 articles of clothing in ten classes (Xiao et al., "Fashion-MNIST", 2017).

    60,000 − `validation` examples are to train on, the official 10,000 to test. Images are flat, (examples, 784)
    float32, as those of `mnist5k` are, normalised with the mean and standard deviation of the training pixels.

    Args:
      seed: decides which examples are for validation.
      validation: the number of training examples that are held out.
      folder: where the IDX files (…-ubyte.gz or unpacked) are looked for; None for those of Debian's package
        dataset-fashion-mnist. Without such files the set comes through tfds, with `folder` as its data directory.

    Returns:
      A Dataset.

    Raises:
      InputError: a set that no source has, a damaged file, or a `validation` that leaves nothing to train on.

    Examples:
      >>> fashion_mnist(seed=0).train.x.shape  # doctest: +SKIP
      (55000, 784)
    """
    place = pathlib.Path(folder or DEBIAN)
    if any(place.glob("train-images-idx3-ubyte*")):
        train, test = _pair(place, "train"), _pair(place, "t10k")
    else:
        otherwise = "install Debian's package dataset-fashion-mnist, pass folder= with the four IDX files"
        train, test = train_and_test("fashion_mnist", folder=folder, otherwise=otherwise)
    flat = [(images.reshape(len(images), -1), labels) for images, labels in (train, test)]
    return carve_validation(*flat, seed=seed, validation=validation)


def _pair(place: pathlib.Path, part: str) -> Arrays:
    return _read_idx(place / f"{part}-images-idx3-ubyte"), _read_idx(place / f"{part}-labels-idx1-ubyte")


def _read_idx(path: pathlib.Path) -> np.ndarray:
    """Return the array of bytes in an IDX file, packed (then with the suffix .gz) or not. InputError if missing or
    damaged.
    """
    packed = path.with_name(path.name + ".gz")
    if not path.exists() and not packed.exists():
        raise InputError(f"{path} is missing, with and without .gz; put all four IDX files into one folder")
    try:
        content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
        # Two zeros, the type, the number of dimensions, then each dimension as a big-endian 32-bit integer.
        if content[:3] != bytes([0, 0, _UNSIGNED_BYTES]):
            raise ValueError("it does not begin as an IDX file of bytes does")
        shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + shape.nbytes).reshape(shape)
    except (EOFError, IndexError, ValueError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}); fetch it again") from error
