"""The widths of a convolution and the depths of a stage among which TAS chooses, and how widths are aligned."""

import itertools
from collections.abc import Sequence

import numpy as np

from jaxticket._checks import check_count
from jaxticket.errors import InputError

_PARTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the channels
_LEAST = 4  # channels, of which three tenths are one


def width_choices(channels: int) -> tuple[int, ...]:
    """Return the widths that a convolution may have: 0.3, 0.4, …, 1 of its channels, rounded down, without repetitions.

    Args:
      channels: the number of channels of the whole convolution, at least 4.

    Returns:
      The widths, rising.

    Raises:
      InputError: fewer than 4 channels, of which three tenths are none.

    Examples:
      >>> width_choices(16), width_choices(4)
      ((4, 6, 8, 9, 11, 12, 14, 16), (1, 2, 3, 4))
    """
    check_count(_LEAST, channels=channels)
    return tuple(sorted({int(channels * part) for part in _PARTS}))


def depth_choices(blocks: int, *, count: int | None = None) -> tuple[int, ...]:
    """Return the numbers of blocks that a stage may have: 1, 3, 5, … and all of them; of two or three blocks each.

    Args:
      blocks: the number of blocks of the whole stage.
      count: the number of choices, blocks · j / count rounded down: the authors' rule for ImageNet, where count is the
        depth of the shallowest stage.

    Returns:
      The depths, rising.

    Raises:
      InputError: no blocks, or a count outside 1 … blocks.

    Examples:
      >>> depth_choices(9), depth_choices(3), depth_choices(6, count=3)
      ((1, 3, 5, 7, 9), (1, 2, 3), (2, 4, 6))
    """
    check_count(1, blocks=blocks)
    if count is not None:
        check_count(1, count=count)
        if count > blocks:
            raise InputError(f"count={count} is more than the {blocks} blocks of the stage")
        return tuple(blocks * j // count for j in range(1, count + 1))
    step = 1 if blocks <= 3 else 2
    return tuple(sorted({*range(1, blocks + 1, step), blocks}))


def interpolate(width: int, target: int) -> np.ndarray:
    """Return the matrix that averages channels into another number of them: adaptive average pooling over channels.

    Of `width` channels, target o averages those from ⌊o · width / target⌋ to ⌈(o + 1) · width / target⌉ − 1.

    Args:
      width: the number of channels.
      target: the number after it.

    Returns:
      (width, target) float32; channels @ matrix are the averages.

    Raises:
      InputError: a number below 1.

    Examples:
      >>> (np.float32([1, 2, 4]) @ interpolate(3, 2)).tolist()
      [1.5, 3.0]
    """
    check_count(1, width=width, target=target)
    at = np.arange(target)
    first, last = at * width // target, -(-(at + 1) * width // target)
    inside = (np.arange(width)[:, None] >= first) & (np.arange(width)[:, None] < last)
    return (inside / (last - first)).astype(np.float32)


def resizes(choices: Sequence[int]) -> np.ndarray:
    """Return the table of interpolations between the widths of a convolution, at the size of the whole one.

    Args:
      choices: the widths, rising.

    Returns:
      (n, n, channels, channels) float32 of n widths: [i, j] turns the i-th width into the j-th. What lies beyond a
      width is 0, so that any two that are drawn have the same shapes.

    Raises:
      InputError: no choices, or such that do not rise from 1.

    Examples:
      >>> resizes((1, 2))[0, 1].tolist()
      [[1.0, 1.0], [0.0, 0.0]]
    """
    if not choices or choices[0] < 1 or any(a >= b for a, b in itertools.pairwise(choices)):
        raise InputError(f"choices={tuple(choices)} must rise, from 1 at least")
    table = np.zeros((len(choices), len(choices), choices[-1], choices[-1]), np.float32)
    for i, width in enumerate(choices):
        for j, target in enumerate(choices):
            table[i, j, :width, :target] = interpolate(width, target)
    return table
