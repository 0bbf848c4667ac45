"""Monarch kernels: the product of two block-diagonal matrices, with a permutation between them."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_array, check_count, check_key
from jaxticket._dtypes import wide
from jaxticket.errors import InputError
from jaxticket.execution._packed import Packed, accumulator
from jaxticket.typing import Key


@functools.partial(jax.tree_util.register_dataclass, data_fields=("values",), meta_fields=("shape",))
@dataclasses.dataclass(frozen=True)
class Monarch(Packed):
    """Two factors of blocks (Dao et al., 2022). Both of them train: a Monarch kernel is a leaf of parameters.

    The first has k blocks (middle of a block, inputs of a block), each over consecutive inputs. The second has l blocks
    (outputs of a block, k · rank), each over every l-th entry of the middle, for every l-th output. Inputs that do not
    fill the blocks are padded, and outputs too many are cut.

    Attributes:
      values: the factors, (k, l · rank, inputs / k) and (l, outputs / l, k · rank).
      shape: (inputs, outputs), static.
    """

    values: tuple[jax.Array, jax.Array]
    shape: tuple[int, int]

    def dense(self) -> jax.Array:
        return self._multiply(jnp.eye(self.shape[0], dtype=self.dtype), jax.lax.Precision.HIGHEST).astype(self.dtype)

    def product(self, x: jax.Array) -> jax.Array:
        return self._multiply(x, None)

    def _multiply(self, x: jax.Array, precision: jax.lax.Precision | None) -> jax.Array:
        first, second = self.values
        blocks, _, width = first.shape
        dtype = accumulator(x.dtype, self.dtype)
        x = jnp.pad(x, ((0, 0), (0, blocks * width - self.shape[0]))).reshape(len(x), blocks, width)
        middle = jnp.einsum("bkp,kqp->bkq", x, first, precision=precision, preferred_element_type=dtype)
        middle = middle.astype(jnp.result_type(x, second)).reshape(len(x), second.shape[2], len(second))
        out = jnp.einsum("brl,lsr->bsl", middle, second, precision=precision, preferred_element_type=dtype)
        return out.reshape(len(x), out.shape[1] * out.shape[2])[:, : self.shape[1]]


def pack_monarch(kernel: jax.Array, *, blocks: int | tuple[int, int] = 4, rank: int | None = None) -> Monarch:
    """Project a kernel onto Monarch matrices: the nearest one in the Frobenius norm (Dao et al., 2022).

    Entries of a dense kernel fall into disjoint blocks, of which each gets the truncated singular value decomposition.
    It works under `jit` and `vmap`.

    Args:
      kernel: float array (inputs, outputs).
      blocks: the number of blocks of both factors, or (of the first, of the second).
      rank: of a block of the kernel; by default the least with which the middle is as wide as the smaller side of the
        kernel, as in the authors' layers.

    Returns:
      A Monarch kernel.

    Raises:
      InputError: a kernel that is not a matrix of floats, or counts below 1.

    References:
      Dao et al. (2022), Monarch: Expressive Structured Matrices for Efficient and Accurate Training.

    Examples:
      >>> import jax.numpy as jnp
      >>> kernel = jnp.arange(1.0, 17).reshape(4, 4).T
      >>> packed = pack_monarch(kernel, blocks=2)
      >>> packed.nbytes, [round(float(x), 4) for x in packed.dense()[:, 0]]
      (64, [1.4336, 1.6152, 3.3338, 3.6991])
    """
    check_array("kernel", kernel, np.floating)
    k, l, p, s, rank = _sizes(kernel.shape, blocks, rank)
    rows, columns = kernel.shape
    padded = jnp.pad(wide(jnp.asarray(kernel)), ((0, k * p - rows), (0, l * s - columns)))
    left, values, right = jnp.linalg.svd(padded.reshape(k, p, s, l).transpose(0, 3, 1, 2), full_matrices=False)
    lacking = max(0, rank - values.shape[-1])
    root = jnp.sqrt(values)[..., :rank]
    left, right = left[..., :rank] * root[..., None, :], right[..., :rank, :] * root[..., None]
    left = jnp.pad(left, ((0, 0), (0, 0), (0, 0), (0, lacking)))  # (k, l, p, rank)
    right = jnp.pad(right, ((0, 0), (0, 0), (0, lacking), (0, 0)))  # (k, l, rank, s)
    first = left.transpose(0, 3, 1, 2).reshape(k, rank * l, p)
    second = right.transpose(1, 3, 0, 2).reshape(l, s, k * rank)
    return Monarch((first.astype(kernel.dtype), second.astype(kernel.dtype)), (rows, columns))


def draw_monarch(
    shape: tuple[int, int], *, key: Key, blocks: int | tuple[int, int] = 4, rank: int | None = None
) -> Monarch:
    """Draw a Monarch kernel as the authors' layers do: uniformly, within 1 / √ the inputs of a block.

    Where the smaller side of a block is not a multiple of the number of blocks, some blocks of the kernel have a higher
    rank than others. `pack_monarch` rounds the rank up instead.

    Args:
      shape: (inputs, outputs).
      key: a typed PRNG key.
      blocks: as in `pack_monarch`.
      rank: as in `pack_monarch`.

    Returns:
      A Monarch kernel, in float32.

    Raises:
      InputError: a shape that is not that of a matrix, or counts below 1.

    Examples:
      >>> import jax
      >>> drawn = draw_monarch((768, 3072), key=jax.random.key(0))
      >>> drawn.nbytes / (4 * 768 * 3072)
      0.3125
    """
    check_key("key", key)
    k, l, p, s, least = _sizes(shape, blocks, rank)
    middle = k * min(p, s) if rank is None and k == l else k * l * least
    sizes = (k, middle // k, p), (l, s, middle // l)
    draw = lambda key, size: jax.random.uniform(key, size, minval=-1, maxval=1) / math.sqrt(size[-1])
    first, second = map(draw, jax.random.split(key), sizes)
    return Monarch((first, second), (int(shape[0]), int(shape[1])))


def _sizes(shape: tuple[int, ...], blocks: int | tuple[int, int], rank: int | None) -> tuple[int, int, int, int, int]:
    """Return the blocks of the first factor and of the second, the inputs and outputs of a block, and the rank."""
    if len(shape) != 2 or not all(n == int(n) >= 1 for n in shape):
        raise InputError(f"kernel has shape {tuple(shape)}; pass a matrix (inputs, outputs) that is not empty")
    rows, columns = map(int, shape)
    k, l = check_blocks(blocks, rank)
    p, s = -(-rows // k), -(-columns // l)
    return k, l, p, s, -(-min(k * p, l * s) // (k * l)) if rank is None else int(rank)


def check_blocks(blocks: int | tuple[int, int], rank: int | None) -> tuple[int, int]:
    """Return the numbers of blocks of both factors. Raises InputError for counts below 1."""
    both = blocks if isinstance(blocks, tuple) else (blocks, blocks)
    if len(both) != 2:
        raise InputError(f"blocks={blocks} must be a whole number, or two: (of the first factor, of the second)")
    for count in both:
        check_count(1, blocks=count)
    if rank is not None:
        check_count(1, rank=rank)
    return int(both[0]), int(both[1])
