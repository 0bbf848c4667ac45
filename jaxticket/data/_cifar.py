"""CIFAR-10 and CIFAR-100: through tfds, or from a file of JPEGs."""

import contextlib
import io
import pathlib
import zipfile
from collections.abc import Iterator, Sequence

import numpy as np

from jaxticket.data._dataset import Arrays, Dataset, carve_validation
from jaxticket.data._extras import needs
from jaxticket.data._tfds import Folder, train_and_test
from jaxticket.errors import InputError


def cifar10(*, seed: int, validation: int = 5000, folder: Folder = None) -> Dataset:
    """Load CIFAR-10, 60,000 photographs in ten classes (Krizhevsky, 2009).

    50,000 − `validation` examples are to train on, the official 10,000 to test. Images are (examples, 32, 32, 3)
    float32, normalised with the mean and standard deviation of each channel of the training images.

    Args:
      seed: decides which examples are for validation.
      validation: the number of training examples that are held out.
      folder: where the file cifar10_jpeg.npz is looked for ({train,test}_jpeg: all files one after the other, _offsets:
        where each begins, and the end, _labels); else the data directory of tfds.

    Returns:
      A Dataset.

    Raises:
      InputError: a set that neither source has, a damaged file, or a `validation` that leaves nothing to train on.
      MissingExtraError: pillow is absent.

    References:
      Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Examples:
      >>> cifar10(seed=0, folder="data").train.x.shape  # doctest: +SKIP
      (45000, 32, 32, 3)
    """
    return _cifar("cifar10", seed=seed, validation=validation, folder=folder)


def cifar100(*, seed: int, validation: int = 5000, folder: Folder = None) -> Dataset:
    """Load CIFAR-100, 60,000 photographs in a hundred classes: shapes and sources are those of `cifar10`.

    The labels are the hundred fine ones.

    Args:
      seed: decides which examples are for validation.
      validation: the number of training examples that are held out.
      folder: where the file cifar100_jpeg.npz is looked for; else the data directory of tfds.

    Returns:
      A Dataset.

    Raises:
      InputError: a set that neither source has, a damaged file, or a `validation` that leaves nothing to train on.
      MissingExtraError: pillow is absent.

    Examples:
      >>> cifar100(seed=0).train.x.shape  # doctest: +SKIP
      (45000, 32, 32, 3)
    """
    return _cifar("cifar100", seed=seed, validation=validation, folder=folder)


def _cifar(name: str, *, seed: int, validation: int, folder: Folder) -> Dataset:
    file = pathlib.Path(folder or "") / f"{name}_jpeg.npz"
    if folder is not None and file.exists():
        train, test = (read_jpegs(file, part) for part in ("train", "test"))
    else:
        train, test = train_and_test(name, folder=folder, otherwise=f"pass folder= with the file {name}_jpeg.npz")
    return carve_validation(train, test, seed=seed, validation=validation)


def read_jpegs(file: pathlib.Path, part: str, *, rows: Sequence[int] | None = None) -> Arrays:
    """Read images of one split of a file of JPEGs, as they are.

    Args:
      file: cifar10_jpeg.npz, or another file with the arrays that `cifar10` describes.
      part: "train" or "test".
      rows: the images to read; None reads all of them.

    Returns:
      Images as bytes, (images, height, width, 3), and their labels.

    Raises:
      InputError: a file that is not there or is damaged, or a row that it does not have.
      MissingExtraError: pillow is absent.

    Examples:
      >>> read_jpegs(pathlib.Path("cifar10_jpeg.npz"), "test", rows=range(500))[0].shape  # doctest: +SKIP
      (500, 32, 32, 3)
    """
    with needs("pillow"):
        from PIL import Image
    with _readable(file, part), np.load(file, allow_pickle=False) as content:
        packed, offsets, labels = (content[f"{part}_{key}"] for key in ("jpeg", "offsets", "labels"))
        if len(offsets) != len(labels) + 1 or offsets[-1] != len(packed):
            raise ValueError(
                f"{len(offsets)} offsets up to {offsets[-1]} for {len(labels)} labels, {len(packed)} bytes"
            )
    chosen = np.arange(len(labels)) if rows is None else np.asarray(rows, int)
    if chosen.size == 0 or chosen.min() < 0 or chosen.max() >= len(labels):
        raise InputError(f"rows is {rows}; {file} has {len(labels)} images of this split, and at least one is read")
    with _readable(file, part):
        buffer = memoryview(packed)
        first = np.asarray(Image.open(io.BytesIO(buffer[: offsets[1]])))
        images = np.empty((len(chosen), *first.shape), np.uint8)
        for place, row in enumerate(chosen):
            images[place] = np.asarray(Image.open(io.BytesIO(buffer[offsets[row] : offsets[row + 1]])))
    return images, labels[chosen]


@contextlib.contextmanager
def _readable(file: pathlib.Path, part: str) -> Iterator[None]:
    """Raise InputError for what a damaged file raises."""
    try:
        yield
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is damaged or of another format ({part}: {error}); fetch it again") from error
