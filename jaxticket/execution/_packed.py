"""The interface of packed kernels, and their product with inputs."""

import abc
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_array
from jaxticket.errors import InputError, StructureError
from jaxticket.typing import PyTree


@dataclasses.dataclass(frozen=True)
class Packed(abc.ABC):
    """A kernel (inputs, outputs) that stores only what its mask keeps: a pytree of arrays, made by a `pack_` function.

    Gradients are those of the kept weights: `jax.grad` of a function of `values`, put back by
    `dataclasses.replace(packed, values=values)`. Places that only pad have a gradient of exactly zero.

    Attributes:
      values: the kept weights, an array or a tuple of arrays in the layout of the form.
      shape: (inputs, outputs) of the kernel, static.
    """

    values: PyTree
    shape: tuple[int, int]

    @property
    def dtype(self) -> Any:
        """The dtype of the kernel."""
        return jnp.result_type(*jax.tree.leaves(self.values))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, those of positions included."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self))

    __array_ufunc__ = None  # so that numpy's arrays leave the product to the kernel, too

    def __rmatmul__(self, x: jax.Array) -> jax.Array:
        """Return x @ the kernel, as `matmul` does: code that multiplies by kernels takes packed ones."""
        return matmul(x, self)

    @abc.abstractmethod
    def dense(self) -> jax.Array:
        """Return the kernel (inputs, outputs), with zeros where the mask drops."""

    @abc.abstractmethod
    def product(self, x: jax.Array) -> jax.Array:
        """Return x (rows, inputs) times the kernel, (rows, outputs), in the dtype in which sums are accumulated."""


def matmul(x: jax.Array, packed: Packed) -> jax.Array:
    """Return x times a packed kernel: `x @ packed.dense()`, computed by the form of the kernel.

    Sums are accumulated in float32 at least. The function can be differentiated, in both modes, with respect to x and
    to the values, and works under `jit` and `vmap`.

    Args:
      x: array (..., inputs).
      packed: a kernel (inputs, outputs), as a `pack_` function returns it.

    Returns:
      An array (..., outputs), in the dtype of `x @ packed.dense()`.

    Raises:
      InputError: x is not an array of numbers or has another number of inputs, or the kernel is not packed.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import execution
      >>> kernel = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 4.0]])
      >>> packed = execution.pack_nm(kernel, kernel != 0, n=1, m=2)
      >>> matmul(jnp.array([1.0, 1.0, 10.0, 10.0]), packed)
      Array([31., 42.], dtype=float32)
    """
    if not isinstance(packed, Packed):
        raise InputError(
            f"packed is a {type(packed).__name__}; pack the kernel first: execution.pack_bcsr(kernel, mask)."
        )
    check_array("x", x)
    inputs, outputs = packed.shape
    if x.ndim == 0 or x.shape[-1] != inputs:
        raise InputError(f"x has shape {x.shape}, but the kernel has {inputs} inputs; x must be (..., {inputs}).")
    rows = jnp.reshape(jnp.asarray(x), (math.prod(x.shape[:-1]), inputs))
    dtype = jnp.result_type(x.dtype, packed.dtype)
    return packed.product(rows).astype(dtype).reshape(*x.shape[:-1], outputs)


def accumulator(*dtypes: Any) -> Any:
    """Return the dtype in which products of these are summed: float32 for narrower floats."""
    dtype = jnp.result_type(*dtypes)
    return jnp.promote_types(dtype, jnp.float32)


def on_host(kernel: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and mask as numpy arrays of one shape, for packing; raise InputError for what cannot be packed."""
    check_array("kernel", kernel, np.floating)
    check_array("mask", mask, np.bool_)
    if isinstance(kernel, jax.core.Tracer) or isinstance(mask, jax.core.Tracer):
        raise InputError(
            "kernel and mask are traced, but the size of a packed kernel depends on them; pack outside jit."
        )
    if kernel.ndim != 2:
        raise InputError(
            f"kernel has shape {kernel.shape}; pass a matrix (inputs, outputs), such as "
            "kernel.reshape(-1, kernel.shape[-1])."
        )
    if 0 in kernel.shape:
        raise InputError(f"kernel has shape {kernel.shape}, so no weights; leave it out.")
    if mask.ndim != 2 or any(m not in (1, k) for m, k in zip(mask.shape, kernel.shape)):
        raise StructureError(f"mask has shape {mask.shape}, which does not broadcast to the kernel's, {kernel.shape}.")
    return np.asarray(kernel), np.broadcast_to(np.asarray(mask), kernel.shape)
