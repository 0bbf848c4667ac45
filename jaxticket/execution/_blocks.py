"""Kept blocks as dense matrices: the inputs of each column of blocks are gathered, and one batched dot multiplies."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_count
from jaxticket.errors import InputError
from jaxticket.execution._packed import Packed, accumulator, on_host


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("values", "rows", "order"), meta_fields=("shape", "block")
)
@dataclasses.dataclass(frozen=True)
class Blocks(Packed):
    """A kernel of which whole blocks are kept. Columns of blocks that keep equally many are multiplied at once.

    Attributes:
      values: for each number of blocks k that some columns keep, (columns, width, k, height). Blocks at the edges are
        padded with zeros.
      rows: for each k, int32 (columns, k): which block of inputs each block multiplies, counted from 0.
      order: int32 (number of columns,): where each column stands among those of all k, one behind the other; the number
        of those for a column that keeps nothing.
      shape: (inputs, outputs), static.
      block: (height, width): inputs and outputs of a block, static.
    """

    values: tuple[jax.Array, ...]
    rows: tuple[jax.Array, ...]
    order: jax.Array
    shape: tuple[int, int]
    block: tuple[int, int]

    def dense(self) -> jax.Array:
        (inputs, outputs), (height, width) = self.shape, self.block
        kernel = jnp.zeros((-(-inputs // height), self.order.size, width, height), self.dtype)
        columns = jnp.argsort(self.order)
        for rows, values in zip(self.rows, self.values):
            here, columns = columns[: len(rows)], columns[len(rows) :]
            kernel = kernel.at[rows, here[:, None]].set(values.transpose(0, 2, 1, 3), unique_indices=True)
        tiles = kernel.transpose(0, 3, 1, 2)
        return tiles.reshape(tiles.shape[0] * height, tiles.shape[2] * width)[:inputs, :outputs]

    def product(self, x: jax.Array) -> jax.Array:
        """Rows are the last axis, so that blocks of inputs are gathered as they lie in memory."""
        (inputs, outputs), (height, width) = self.shape, self.block
        dtype, rows_of_x = accumulator(x.dtype, self.dtype), x.shape[0]
        strips = jnp.pad(x.T, ((0, -inputs % height), (0, 0))).reshape(-1, height, rows_of_x)
        columns = []
        for rows, values in zip(self.rows, self.values):
            count, k = rows.shape
            gathered = strips.at[rows].get(mode="promise_in_bounds").reshape(count, k * height, rows_of_x)
            # Where there is a single block of inputs, all columns multiply it: nothing is gathered.
            inner = strips[0] if len(strips) == 1 else gathered
            kernel = values.reshape(count, width, k * height)
            columns.append(jnp.matmul(kernel, inner, preferred_element_type=dtype))
        columns.append(jnp.zeros((1, width, rows_of_x), dtype))
        y = jnp.concatenate(columns).at[self.order].get(mode="promise_in_bounds")
        return y.reshape(-1, rows_of_x)[:outputs].T


def pack_blocks(kernel: jax.Array | np.ndarray, mask: jax.Array | np.ndarray, *, block: tuple[int, int]) -> Blocks:
    """Pack a kernel of which a mask keeps or drops whole blocks.

    Such masks are selected with `unit=units.block(height, width)`.

    Args:
      kernel: float array (inputs, outputs).
      mask: bool array that broadcasts to the kernel.
      block: (height, width): inputs and outputs of a block. Blocks at the edges may be smaller.

    Returns:
      A Blocks kernel.

    Raises:
      InputError: a block of which the mask keeps a part, sizes that are not counts, a kernel that is not a matrix of
        floats, a mask that does not fit it, or traced arrays.

    Examples:
      >>> import jax.numpy as jnp
      >>> kernel = jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0]])
      >>> packed = pack_blocks(kernel, kernel != 0, block=(2, 1))
      >>> packed.values, packed.rows, packed.order
      ((Array([[[[1., 2.]]]], dtype=float32),), (Array([[0]], dtype=int32),), Array([1, 1, 0], dtype=int32))

    References:
      Gray et al., `GPU Kernels for Block-Sparse Weights
      <https://cdn.openai.com/blocksparse/blocksparsepaper.pdf>`_, 2017
    """
    weights, keep = on_host(kernel, mask)
    height, width = _sizes(block)
    kept = _kept_blocks(keep, height, width)
    inputs, outputs = weights.shape
    padded = np.pad(
        np.where(keep, weights, np.zeros((), weights.dtype)), ((0, -inputs % height), (0, -outputs % width))
    )
    tiles = padded.reshape(kept.shape[0], height, kept.shape[1], width).transpose(0, 2, 3, 1)
    counts = kept.sum(0)
    order, rows, values = np.full(counts.shape, np.count_nonzero(counts)), [], []
    first = 0
    for count in np.unique(counts[counts > 0]) if kept.any() else [1]:  # an empty array, where nothing is kept
        columns = np.flatnonzero(counts == count)
        order[columns] = first + np.arange(columns.size)
        first += columns.size
        rows.append(np.nonzero(kept[:, columns].T)[1].reshape(columns.size, count))
        values.append(tiles[rows[-1], columns[:, None]].transpose(0, 2, 1, 3))
    return Blocks(
        values=tuple(map(jnp.asarray, values)),
        rows=tuple(jnp.asarray(r.astype(np.int32)) for r in rows),
        order=jnp.asarray(order.astype(np.int32)),
        shape=weights.shape,
        block=(height, width),
    )


def _sizes(block: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(block, tuple | list) or len(block) != 2:
        raise InputError(f"block={block!r} must be a pair (height, width), such as (16, 16).")
    for size in block:
        check_count(1, block=size)
    return int(block[0]), int(block[1])


def _kept_blocks(keep: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return which blocks are kept, (rows, columns); raise InputError for one that is kept in part."""
    tiles = np.pad(keep, ((0, -keep.shape[0] % height), (0, -keep.shape[1] % width)))
    kept: np.ndarray = np.any(tiles.reshape(tiles.shape[0] // height, height, -1, width), (1, 3))
    whole = np.repeat(np.repeat(kept, height, 0), width, 1)[: keep.shape[0], : keep.shape[1]]
    if np.any(whole != keep):
        row, column = np.argwhere(whole != keep)[0] // (height, width)
        raise InputError(
            f"mask keeps a part of the block of inputs from {row * height} and outputs from {column * width}, with "
            f"block={(height, width)}; select it with unit=units.block{(height, width)}, or pass the block of its unit."
        )
    return kept
