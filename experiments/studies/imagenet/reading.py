"""Photographs of ImageNet: each process reads its part and brings it onto the mesh."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.studies.imagenet.config import Config
from jaxticket import data
from jaxticket.errors import InputError
from jaxticket.typing import PyTree

EXAMPLES, VALIDATION, CLASSES = 1_281_167, 50_000, 1000  # of imagenet2012


class Photographs(NamedTuple):
    """Both splits, as sources of {"image": (height, width, 3) uint8, "label"}, and the number of classes."""

    train: Sequence[Any]
    validation: Sequence[Any]
    classes: int


def find(config: Config) -> Photographs:
    """Open the photographs in --data-dir. Raises InputError, with the command that prepares them, if there are none."""
    folder = config.data_dir
    if folder is not None and (folder / "train").is_dir():
        train, validation = (data.ImageFolder(folder / split) for split in ("train", "val"))
        if train.classes != validation.classes:
            raise InputError(f"--data-dir {folder}: train and val must hold the same folders, one a class")
        return Photographs(train, validation, len(train.classes))
    try:
        train, validation = (
            data.tfds_source("imagenet2012", split=split, folder=folder) for split in ("train", "validation")
        )
    except InputError as error:
        raise InputError(
            f"--data-dir {folder} holds neither train/CLASS/*.JPEG and val/CLASS/*.JPEG nor a prepared tfds set: "
            f"{error} (tfds wants ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in downloads/manual of it)"
        ) from error
    return Photographs(train, validation, CLASSES)


def training(config: Config, photographs: Photographs, *, seed: int, like: PyTree) -> Any:
    """Return an iterator over this process's part of the training batches, whose state can be saved.

    `like` holds the shapes and shardings of a batch on the mesh.
    """
    part = part_of(like["label"])
    crop = data.crops.random_resized(config.image_size)
    return data.stream(photographs.train, batch_size=config.batch_size, seed=seed, transform=crop, part=part)


def validation(config: Config, photographs: Photographs, *, like: PyTree) -> Iterator[tuple[PyTree, jax.Array]]:
    """Yield batches on the mesh that hold each validation example once, and the examples of them that count."""
    rows = like["label"]
    crop = data.crops.centre(config.image_size)
    batches = data.one_pass(photographs.validation, batch_size=config.batch_size, transform=crop, part=part_of(rows))
    for batch, valid in batches:
        yield onto(batch, like), onto(valid, jax.ShapeDtypeStruct(rows.shape, bool, sharding=rows.sharding))


def onto(local: PyTree, like: PyTree) -> PyTree:
    """Return arrays on the mesh, joined from the parts that the processes read."""
    put = lambda x, s: jax.make_array_from_process_local_data(s.sharding, np.asarray(x), s.shape)
    return jax.tree.map(put, local, like)


def part_of(rows: jax.ShapeDtypeStruct) -> data.Part:
    """Return the part of a batch that lies on this process's devices; processes on one tensor axis share it."""
    places = rows.sharding.addressable_devices_indices_map(rows.shape).values()
    bounds = [place[0].indices(rows.shape[0])[:2] for place in places]
    first, last = min(start for start, _ in bounds), max(stop for _, stop in bounds)
    if rows.shape[0] % (last - first) or first % (last - first):
        raise InputError(
            f"--mesh gives this process the examples {first} to {last} of a batch of {rows.shape[0]}, which is not "
            "one of the equal parts; let data be a multiple of the number of processes"
        )
    return data.Part(first // (last - first), rows.shape[0] // (last - first))
