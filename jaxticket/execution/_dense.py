"""The masked kernel itself, with which every other form is compared."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket.execution._packed import Packed, on_host


@functools.partial(jax.tree_util.register_dataclass, data_fields=("values",), meta_fields=("shape",))
@dataclasses.dataclass(frozen=True)
class Dense(Packed):
    """A masked kernel as it is, zeros included.

    Attributes:
      values: (inputs, outputs).
      shape: (inputs, outputs), static.
    """

    values: jax.Array
    shape: tuple[int, int]

    def dense(self) -> jax.Array:
        return self.values

    def product(self, x: jax.Array) -> jax.Array:
        return x @ self.values


def pack_dense(kernel: jax.Array | np.ndarray, mask: jax.Array | np.ndarray) -> Dense:
    """Return the masked kernel as a form of its own, for comparison. Weights that are not kept are zeros, and train.

    Args:
      kernel: float array (inputs, outputs).
      mask: bool array that broadcasts to the kernel.

    Returns:
      A Dense kernel.

    Raises:
      InputError: a kernel that is not a matrix of floats, a mask that does not fit it, or traced arrays.

    Examples:
      >>> import jax.numpy as jnp
      >>> pack_dense(jnp.ones((1, 2)), jnp.array([[True, False]])).values
      Array([[1., 0.]], dtype=float32)
    """
    weights, keep = on_host(kernel, mask)
    return Dense(jnp.asarray(np.where(keep, weights, np.zeros((), weights.dtype))), weights.shape)
