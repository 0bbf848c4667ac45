"""tfds sets without TensorFlow: prepared once, read at random."""

import io
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxticket.data._dataset import Arrays
from jaxticket.data._extras import needs
from jaxticket.errors import InputError, MissingExtraError

Folder = str | os.PathLike[str] | None  # of files or prepared sets; None for the usual place


def prepare(name: str, *, folder: Folder = None) -> None:
    """Download a tfds set, once, and write it in the array_record format that `tfds_source` reads.

    Images that a builder yields as arrays are encoded as PNG by pillow, since tfds itself needs TensorFlow for that. A
    set that is prepared is left alone.

    Args:
      name: "set", "set/config" or "set/config:version".
      folder: the data directory; None for that of tfds.

    Raises:
      InputError: a name that tfds does not know, or a set that is prepared in another format.
      MissingExtraError: tensorflow-datasets, array-record or pillow is absent.

    Examples:
      >>> prepare("cifar10", folder="data")  # doctest: +SKIP
    """
    with needs("importlib_resources"):
        import importlib_resources  # noqa: F401  tfds needs it to prepare a set, but does not require it
    builder, tfds = _builder(name, folder)
    for feature in builder.info.features.values():
        if isinstance(feature, tfds.features.Image):
            feature.encode_example = _encoding(feature.encode_example)
    builder.download_and_prepare()


def tfds_source(name: str, *, split: str, folder: Folder = None) -> Sequence[dict[str, Any]]:
    """Return the examples of a prepared tfds set, decoded on access. Nothing is downloaded.

    Args:
      name: "set", "set/config" or "set/config:version", as for `prepare`.
      split: "train", or a slice such as "train[:10%]".
      folder: the data directory; None for that of tfds.

    Returns:
      A sequence of dicts such as {"image", "label"}.

    Raises:
      InputError: a set that is not prepared in the array_record format, or without such a split.
      MissingExtraError: tensorflow-datasets, array-record or pillow is absent.

    Examples:
      >>> tfds_source("imagenet2012", split="train")[0]["image"].shape  # doctest: +SKIP
      (500, 375, 3)
    """
    builder, _ = _builder(name, folder)
    # Ask first: a builder of an unprepared set would try to download it, without a network for minutes.
    if not builder.is_prepared():
        arguments = f"{name!r}" if folder is None else f"{name!r}, folder={os.fspath(folder)!r}"
        raise InputError(
            f"name={name!r} is not prepared in {builder.data_path}; prepare it once, with a network: "
            f'python -c "from jaxticket import data; data.prepare({arguments})"'
        )
    try:
        source: Sequence[dict[str, Any]] = builder.as_data_source(split)
    except (NotImplementedError, ValueError) as error:
        raise InputError(f"name={name!r}, split={split!r}: {error}") from error
    return source


def train_and_test(name: str, *, folder: Folder, otherwise: str) -> tuple[Arrays, Arrays]:
    """Return the images and labels of both splits, decoded into arrays. `otherwise` names another source, for the
    message.
    """
    try:
        train, test = (tfds_source(name, split=split, folder=folder) for split in ("train", "test"))
    except (InputError, MissingExtraError) as error:
        raise InputError(f"{name} is missing (folder={folder}): {otherwise}, or use tfds: {error}") from error
    return _arrays(train), _arrays(test)


def png(image: np.ndarray) -> io.BytesIO:
    """Return a file that holds (height, width, 1 or 3) bytes as PNG."""
    with needs("pillow"):
        from PIL import Image
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "png")
    file.seek(0)
    return file


def _builder(name: str, folder: Folder) -> tuple[Any, Any]:
    """Return the builder, and tfds."""
    with needs("tensorflow-datasets"):
        import tensorflow_datasets as tfds
    with needs("array-record"):
        import array_record  # noqa: F401  tfds reads sets with it
    with needs("pillow"):
        import PIL.Image  # noqa: F401  tfds decodes images with it
    try:
        return tfds.builder(name, data_dir=folder, file_format="array_record"), tfds
    except ValueError as error:
        first, *_ = str(error).splitlines()  # a list of all sets that there are follows
        raise InputError(f"name={name!r}, folder={folder}: {first}") from error


def _encoding(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda image: encode(png(image) if isinstance(image, np.ndarray) else image)


def _arrays(source: Sequence[dict[str, Any]]) -> Arrays:
    examples = [source[row] for row in range(len(source))]
    return np.stack([e["image"] for e in examples]), np.array([e["label"] for e in examples])
