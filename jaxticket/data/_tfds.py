"""tfds sets without TensorFlow: prepared once, read at random."""

import io
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxticket.data._dataset import Arrays
from jaxticket.data._extras import needs
from jaxticket.errors import InputError, MissingExtraError

Folder = str | os.PathLike[str] | None  # of files or prepared sets; None: where they usually are


def prepare(name: str, *, folder: Folder = None) -> None:
    """Downloads a tfds set, once, and writes it in the array_record format that `tfds_source` reads.

    `name` may be "set", "set/config" or "set/config:version"; `folder` is the data directory, without one that of
    tfds. Images that a builder yields as arrays are encoded as PNG by pillow, since tfds itself needs TensorFlow for
    that. Does nothing for a set that is prepared. Raises InputError for a name that tfds does not know or a set that
    is prepared in another format, MissingExtraError without tensorflow-datasets, array-record or pillow.

    >>> prepare("cifar10", folder="data")  # doctest: +SKIP
    """
    with needs("importlib_resources"):
        import importlib_resources  # noqa: F401  tfds needs it to prepare a set, and does not say so
    builder, tfds = _builder(name, folder)
    for feature in builder.info.features.values():
        if isinstance(feature, tfds.features.Image):
            feature.encode_example = _encoding(feature.encode_example)
    builder.download_and_prepare()


def tfds_source(name: str, *, split: str, folder: Folder = None) -> Sequence[dict[str, Any]]:
    """The examples of a prepared tfds set, decoded when asked for: source[i] is a dict such as {"image", "label"}.

    `name` and `folder` are those of `prepare`, `split` is "train" or a slice such as "train[:10%]". Nothing is
    downloaded. Raises InputError for a set that is not prepared in the array_record format or has no such split,
    MissingExtraError without tensorflow-datasets, array-record or pillow.

    >>> tfds_source("imagenet2012", split="train")[0]["image"].shape  # doctest: +SKIP
    (500, 375, 3)
    """
    builder, _ = _builder(name, folder)
    # Asked first: a builder of an unprepared set would try to download it, and without a network for minutes.
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
    """The images and labels of both splits, decoded into arrays. `otherwise`: how else to come by the set."""
    try:
        train, test = (tfds_source(name, split=split, folder=folder) for split in ("train", "test"))
    except (InputError, MissingExtraError) as error:
        raise InputError(f"{name} is not at hand (folder={folder}): {otherwise}, or use tfds: {error}") from error
    return _arrays(train), _arrays(test)


def png(image: np.ndarray) -> io.BytesIO:
    """A file that holds (height, width, 1 or 3) bytes as PNG."""
    with needs("pillow"):
        from PIL import Image
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "png")
    file.seek(0)
    return file


def _builder(name: str, folder: Folder) -> tuple[Any, Any]:
    """The builder, and tfds."""
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
