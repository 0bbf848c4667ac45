"""Regrouping: output channels that read similar inputs become dense blocks, and all other weights go."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from jaxticket._checks import check_array, check_count, check_number
from jaxticket.errors import InputError
from jaxticket.methods.channels.structure_lth._partition import partition
from jaxticket.methods.channels.structure_lth._refill import check_layers
from jaxticket.typing import Mask


class Block(NamedTuple):
    """A dense block of a kernel.

    Attributes:
      outputs: int array of output channels.
      inputs: int array of inputs; those of convolutions are counted over (channel, row, column).
    """

    outputs: np.ndarray
    inputs: np.ndarray


def regroup(
    mask: Mask,
    *,
    parts: int = 8,
    ratio: float = 1.5,
    multiple: int = 32,
    least_channels: int = 17,
    imbalance: float = 0.0,
) -> Mask:
    """Return the mask of dense blocks that stand for the weights that a mask keeps (IMP-Regroup).

    The blocks of each layer are those of `find_blocks`; all their weights are kept, and no others. A layer without any
    keeps its mask. So does one of up to 128 channels with the defaults, since its parts have at most 16. The density
    may rise or fall. It works on the host.

    Args:
      mask: a mask whose leaves have two axes or more, output channels last and inputs before them. None leaves stay
        None: the paper leaves out the first convolution and the last dense layer.
      parts: as of `find_blocks`.
      ratio: as of `find_blocks`.
      multiple: as of `find_blocks`.
      least_channels: as of `find_blocks`.
      imbalance: as of `find_blocks`.

    Returns:
      A mask of the same shapes.

    Raises:
      InputError: a mask that is not bool, is traced, or has leaves of fewer axes, or knobs out of range.

    Examples:
      >>> import jax.numpy as jnp
      >>> mask = jnp.array([[1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0]], bool)
      >>> regroup({"kernel": mask}, parts=2, least_channels=2)["kernel"].astype(int)
      Array([[1, 0, 1, 0],
             [1, 0, 1, 0],
             [0, 1, 0, 1],
             [0, 1, 0, 1]], dtype=int32)
    """
    check_layers(mask)
    knobs: dict[str, Any] = {"parts": parts, "ratio": ratio, "multiple": multiple, "least_channels": least_channels}
    return _tree.map_present(lambda m: _fill(m, find_blocks(m, **knobs, imbalance=imbalance)), mask)


def find_blocks(
    mask: jax.Array | np.ndarray,
    *,
    parts: int = 8,
    ratio: float = 1.5,
    multiple: int = 32,
    least_channels: int = 17,
    imbalance: float = 0.0,
) -> list[Block]:
    """Return the dense blocks of a layer.

    The output channels that keep a weight are divided into parts that share inputs, by `partition`. The inputs of a
    part are ordered by the number of its channels that read them. The block takes the fewest first inputs, but not all,
    whose number exceeds `ratio` times the weights that any channel of the part keeps elsewhere.

    The authors' code looks at input i in the place of the i-th in that order, and at no more channels after the first
    that fails, so that its blocks come out wider.

    Args:
      mask: bool array (…, inputs, outputs), of a dense kernel or of a convolution.
      parts: the number of parts (cn in the authors' code).
      ratio: how much wider a block must be than what it leaves out (t1).
      multiple: a part of more channels gives two blocks, the first of a multiple of it (nn).
      least_channels: a part of fewer channels is dropped (B2 + 1).
      imbalance: as of `partition`. The authors call hMETIS with a tolerance of 10 % at each bisection.

    Returns:
      Blocks that share no output channel, those of large parts first; none where no part qualifies.

    Raises:
      InputError: a mask that is not an array of bool, is traced, or has fewer than two axes, or knobs out of range.

    Examples:
      >>> import numpy as np
      >>> mask = np.array([[1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0]], bool)
      >>> [(block.outputs.tolist(), block.inputs.tolist()) for block in find_blocks(mask, parts=2, least_channels=2)]
      [([0, 2], [0, 1]), ([1, 3], [2, 3])]
    """
    check_count(1, multiple=multiple, least_channels=least_channels)
    check_number(ratio=ratio)
    rows = _as_rows(mask)
    alive = np.flatnonzero(rows.any(1))
    labels = partition(rows[alive], parts, imbalance=imbalance)
    clusters = sorted((alive[labels == part] for part in range(parts)), key=len, reverse=True)
    blocks = []
    for outputs in clusters:
        inputs = _shared_inputs(rows[outputs], ratio)
        if not inputs.size or len(outputs) < least_channels:
            continue
        whole = len(outputs) // multiple * multiple if len(outputs) > multiple else len(outputs)
        blocks += [Block(some, inputs) for some in (outputs[:whole], outputs[whole:]) if some.size]
    return blocks


def arrange(mask: jax.Array | np.ndarray) -> tuple[np.ndarray, int]:
    """Return an order of output channels in which a mask of `regroup` keeps whole blocks of one width.

    Channels that read the same inputs come together, the last of them repeated until they are a multiple of the width.
    `execution.pack_blocks(kernel[:, order], mask[:, order], block=(1, width))` then gathers the inputs of each block
    once, for one dense product. `np.unique(order, return_index=True)[1]` is where each channel stands in its outputs;
    between two layers their rows may be put in this order instead, those of repetitions as zeros.

    Args:
      mask: bool array (…, inputs, outputs).

    Returns:
      int array of channels, and the width: that of the largest block.

    Raises:
      InputError: a mask that is not an array of bool, is traced, or has fewer than two axes.

    Examples:
      >>> import numpy as np
      >>> arrange(np.array([[1, 0, 1, 0, 0], [1, 0, 1, 0, 0], [0, 1, 0, 0, 1]], bool))
      (array([0, 2, 1, 4, 3, 3]), 2)
    """
    alike: dict[bytes, list[int]] = {}
    idle: list[int] = []
    for output, row in enumerate(_as_rows(mask)):
        (alike.setdefault(row.tobytes(), []) if row.any() else idle).append(output)
    width = max(map(len, alike.values()), default=1)
    groups = [own for own in (*alike.values(), idle) if own]
    return np.concatenate([np.array(own + own[-1:] * (-len(own) % width)) for own in groups]), width


def _as_rows(mask: jax.Array | np.ndarray) -> np.ndarray:
    """Return outputs × inputs; those of convolutions in the order (channel, row, column) of the authors' framework."""
    check_array("mask", mask, np.bool_)
    if isinstance(mask, jax.core.Tracer):
        raise InputError("mask is traced, but blocks are found on the host; regroup outside jit.")
    if mask.ndim < 2:
        raise InputError(f"mask has shape {mask.shape}; pass that of a kernel (…, inputs, outputs).")
    return np.moveaxis(np.asarray(mask), (-1, -2), (0, 1)).reshape(mask.shape[-1], -1)


def _shared_inputs(rows: np.ndarray, ratio: float) -> np.ndarray:
    """Return the inputs of the block of a part; empty where there is none."""
    order = np.argsort(-rows.sum(0), kind="stable")
    taken = np.cumsum(rows[:, order], axis=1)[:, :-1]
    missed = (rows.sum(1)[:, None] - taken).max(0, initial=0)
    enough = np.arange(1, rows.shape[1]) > ratio * missed
    return order[: np.argmax(enough) + 1] if enough.any() else order[:0]


def _fill(mask: jax.Array, blocks: list[Block]) -> jax.Array:
    if not blocks:
        return mask
    rows = np.zeros_like(_as_rows(mask))
    for outputs, inputs in blocks:
        rows[np.ix_(outputs, inputs)] = True
    *window, channels, width = mask.shape
    return jnp.asarray(np.moveaxis(rows.reshape(width, channels, *window), (0, 1), (-1, -2)))
