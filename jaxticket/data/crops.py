"""Crops of photographs to one size, on the host: transforms of examples for `stream` and `one_pass`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxticket.data._extras import needs
from jaxticket.errors import InputError

__all__ = ["Box", "Example", "centre", "random_resized"]

Example = dict[str, Any]  # {"image": (height, width, 3) uint8, "label": int} and perhaps more, which is dropped
Box = tuple[float, float, float, float]  # left, upper, right, lower

_TRIES = 10  # to place a crop of the drawn area and shape inside the image


def random_resized(
    size: int, *, area: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
) -> Callable[[Example, np.random.Generator], Example]:
    """Return a transform for `stream`: a random part of the image, resized and mirrored with probability one half.

    The part has a uniform share of the image's pixels and a log-uniform width over height, at a uniform place. After
    ten parts that do not fit it is the largest centred one of an allowed ratio. It follows Szegedy et al., "Going
    Deeper with Convolutions" (2015), as torchvision has it; bilinear, with antialiasing.

    Args:
      size: the height and width of the result.
      area: the range of the part's share of the pixels.
      ratio: the range of its width over height.

    Returns:
      (example, rng) -> {"image": (size, size, 3) uint8, "label"}.

    Raises:
      InputError: a size below 1, or ranges that are not rising and positive.
      MissingExtraError: pillow is absent.

    Examples:
      >>> crop = random_resized(32)
      >>> example = {"image": np.zeros((40, 60, 3), np.uint8), "label": 3, "file_name": "n01.JPEG"}
      >>> crop(example, np.random.default_rng(0))["image"].shape
      (32, 32, 3)
    """
    _check_size(size)
    if not 0 < area[0] <= area[1] <= 1:
        raise InputError(f"area={area} must rise between 0 and 1, such as (0.08, 1.0)")
    if not 0 < ratio[0] <= ratio[1]:
        raise InputError(f"ratio={ratio} must be rising and positive, such as (3 / 4, 4 / 3)")

    def transform(example: Example, rng: np.random.Generator) -> Example:
        height, width, _ = example["image"].shape
        image = _resize(example["image"], _part(height, width, area, ratio, rng), size)
        return _example(image[:, ::-1] if rng.random() < 0.5 else image, example)

    return transform


def centre(size: int, *, share: float = 0.875) -> Callable[[Example], Example]:
    """Return a transform for `one_pass`: the central square of the image, resized.

    With 224 and 0.875 it shows the same as "resized to 256, centre crop of 224", in one resampling.

    Args:
      size: the height and width of the result.
      share: the side of the square over the image's shorter side.

    Returns:
      example -> {"image": (size, size, 3) uint8, "label"}.

    Raises:
      InputError: a size below 1, or a share that is not above 0 and at most 1.
      MissingExtraError: pillow is absent.

    Examples:
      >>> centre(32)({"image": np.zeros((40, 60, 3), np.uint8), "label": 3})["image"].shape
      (32, 32, 3)
    """
    _check_size(size)
    if not 0 < share <= 1:
        raise InputError(f"share={share} must be above 0 and at most 1")

    def transform(example: Example) -> Example:
        height, width, _ = example["image"].shape
        side = share * min(height, width)
        return _example(_resize(example["image"], _centre_box(height, width, side, side), size), example)

    return transform


def _part(
    height: int, width: int, area: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Box:
    for _ in range(_TRIES):
        pixels = height * width * rng.uniform(*area)
        shape = np.exp(rng.uniform(*np.log(ratio)))
        columns, rows = round((pixels * shape) ** 0.5), round((pixels / shape) ** 0.5)
        if 0 < columns <= width and 0 < rows <= height:
            left, upper = rng.integers(0, [width - columns, height - rows], endpoint=True)
            return left, upper, left + columns, upper + rows
    columns = min(width, max(1, round(height * ratio[1])))
    return _centre_box(height, width, min(height, max(1, round(columns / ratio[0]))), columns)


def _centre_box(height: int, width: int, rows: float, columns: float) -> Box:
    left, upper = (width - columns) / 2, (height - rows) / 2
    return left, upper, left + columns, upper + rows


def _resize(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box))


def _example(image: np.ndarray, example: Example) -> Example:
    return {"image": np.ascontiguousarray(image), "label": np.int32(example["label"])}


def _check_size(size: int) -> None:
    if size < 1:
        raise InputError(f"size={size} must be at least 1")
    with needs("pillow"):
        import PIL.Image  # noqa: F401
