"""Folders of images, one sub-folder a class."""

import os
import pathlib
from typing import Any

import numpy as np

from jaxticket.data._extras import needs
from jaxticket.errors import InputError

_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".webp"})


class ImageFolder:
    """The images in folder/class/*.jpeg (or .jpg, .png, .webp), as ImageNet is kept, decoded on access.

    source[i] is {"image": (height, width, 3) uint8, "label": int}. Classes are numbered in the order of their names,
    which `classes` holds. Sizes differ: `stream` takes a transform that makes them alike.

    Args:
      folder: the folder that holds one sub-folder a class.

    Raises:
      InputError: a folder without such images.
      MissingExtraError: pillow is absent.

    Examples:
      >>> ImageFolder("imagenet/train")[0]["image"].shape  # doctest: +SKIP
      (500, 375, 3)
    """

    def __init__(self, folder: str | os.PathLike[str]):
        with needs("pillow"):
            import PIL.Image  # noqa: F401
        root = pathlib.Path(folder)
        files = sorted(path for path in root.glob("*/*") if path.suffix.lower() in _SUFFIXES)
        if not files:
            raise InputError(f"folder={folder} holds no images; it must hold one folder of {sorted(_SUFFIXES)} a class")
        self.classes = sorted({path.parent.name for path in files})
        number = {name: index for index, name in enumerate(self.classes)}
        self._examples = [(path, number[path.parent.name]) for path in files]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, row: int) -> dict[str, Any]:
        from PIL import Image

        path, label = self._examples[row]
        with Image.open(path) as image:
            return {"image": np.asarray(image.convert("RGB")), "label": label}
