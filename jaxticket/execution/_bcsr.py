"""Compressed rows of any mask, multiplied by jax.experimental.sparse."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket.execution._packed import Packed, accumulator, on_host
from jaxticket.execution._tangents import dense_tangents

_LEAST = 8  # rows of a product: on a CPU eight take a quarter of the time of a single row


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("values", "indices", "indptr"), meta_fields=("shape",)
)
@dataclasses.dataclass(frozen=True)
class BCSR(Packed):
    """A kernel as compressed rows, one for each output.

    Attributes:
      values: (kept,), the weights of output 0, then those of output 1, and so on.
      indices: int32 (kept,), the input of each weight.
      indptr: int32 (outputs + 1,), where the weights of each output begin.
      shape: (inputs, outputs), static.
    """

    values: jax.Array
    indices: jax.Array
    indptr: jax.Array
    shape: tuple[int, int]

    def dense(self) -> jax.Array:
        return _rows(self, self.dtype).todense().T

    def product(self, x: jax.Array) -> jax.Array:
        return _product(self, x)


def pack_bcsr(kernel: jax.Array | np.ndarray, mask: jax.Array | np.ndarray) -> BCSR:
    """Pack a kernel under any mask as compressed rows, for `jax.experimental.sparse`.

    Args:
      kernel: float array (inputs, outputs).
      mask: bool array that broadcasts to the kernel.

    Returns:
      A BCSR kernel.

    Raises:
      InputError: a kernel that is not a matrix of floats, a mask that does not fit it, or traced arrays.

    Examples:
      >>> import jax.numpy as jnp
      >>> kernel = jnp.array([[1.0, 2.0], [0.0, 0.0], [0.0, 4.0]])
      >>> packed = pack_bcsr(kernel, kernel != 0)
      >>> packed.values, packed.indices, packed.indptr
      (Array([1., 2., 4.], dtype=float32), Array([0, 0, 2], dtype=int32), Array([0, 1, 3], dtype=int32))
    """
    weights, keep = on_host(kernel, mask)
    _, indices = np.nonzero(keep.T)
    indptr = np.concatenate([[0], np.cumsum(keep.sum(0))])
    return BCSR(
        values=jnp.asarray(weights.T[keep.T]),
        indices=jnp.asarray(indices.astype(np.int32)),
        indptr=jnp.asarray(indptr.astype(np.int32)),
        shape=weights.shape,
    )


@dense_tangents
def _product(packed: BCSR, x: jax.Array) -> jax.Array:
    from jax.experimental import sparse  # not at the top: it takes a tenth of the time to import jaxticket

    dtype = accumulator(x.dtype, packed.dtype)
    columns = jnp.pad(x.astype(dtype), ((0, max(0, _LEAST - x.shape[0])), (0, 0))).T
    y = sparse.bcsr_dot_general(_rows(packed, dtype), columns, dimension_numbers=(((1,), (0,)), ((), ())))
    return y.T[: x.shape[0]]


def _rows(packed: BCSR, dtype: Any) -> Any:
    """Return the transposed kernel as a `jax.experimental.sparse.BCSR`."""
    from jax.experimental import sparse

    arrays = (packed.values.astype(dtype), packed.indices, packed.indptr)
    return sparse.BCSR(arrays, shape=packed.shape[::-1], indices_sorted=True, unique_indices=True)
