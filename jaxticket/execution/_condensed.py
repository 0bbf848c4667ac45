"""Constant fan-in: the same number of inputs for each output, as rows of weights and of their inputs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket.errors import InputError
from jaxticket.execution._packed import Packed, accumulator, on_host
from jaxticket.execution._tangents import dense_tangents

_FEW = 32  # rows up to which a loop over outputs was measured to be faster than one over their inputs


@functools.partial(jax.tree_util.register_dataclass, data_fields=("values", "indices"), meta_fields=("shape",))
@dataclasses.dataclass(frozen=True)
class Condensed(Packed):
    """A kernel in which every output has the same number of inputs.

    Attributes:
      values: (outputs, fan_in).
      indices: int32 (outputs, fan_in), the inputs of each output in ascending order.
      shape: (inputs, outputs), static.
    """

    values: jax.Array
    indices: jax.Array
    shape: tuple[int, int]

    def dense(self) -> jax.Array:
        inputs, outputs = self.shape
        kernel = jnp.zeros((outputs, inputs), self.dtype).at[jnp.arange(outputs)[:, None], self.indices]
        return kernel.set(self.values, mode="promise_in_bounds", unique_indices=True, indices_are_sorted=True).T

    def product(self, x: jax.Array) -> jax.Array:
        return _product(self, x)


def pack_condensed(kernel: jax.Array | np.ndarray, mask: jax.Array | np.ndarray) -> Condensed:
    """Pack a kernel whose mask keeps the same number of inputs for each output (a constant fan-in).

    Such masks are selected with `scope=scopes.slices(-1)`.

    Args:
      kernel: float array (inputs, outputs).
      mask: bool array that broadcasts to the kernel.

    Returns:
      A Condensed kernel.

    Raises:
      InputError: outputs with different numbers of inputs, a kernel that is not a matrix of floats, a mask that does
        not fit it, or traced arrays.

    Examples:
      >>> import jax.numpy as jnp
      >>> kernel = jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, 4.0]])
      >>> packed = pack_condensed(kernel, kernel != 0)
      >>> packed.values.ravel(), packed.indices.ravel()
      (Array([1., 4.], dtype=float32), Array([0, 2], dtype=int32))

    References:
      Lasby et al., `Dynamic Sparse Training with Structured Sparsity <https://arxiv.org/abs/2305.02299>`_, 2024
    """
    weights, keep = on_host(kernel, mask)
    fan_in = keep.sum(0)
    if fan_in.size and fan_in.min() != fan_in.max():
        raise InputError(
            f"mask keeps {fan_in.min()} inputs of output {fan_in.argmin()} and {fan_in.max()} of output "
            f"{fan_in.argmax()}, but must keep equally many of each; select it with scope=scopes.slices(-1), or use "
            "execution.pack_bcsr."
        )
    outputs = weights.shape[1]
    indices = np.nonzero(keep.T)[1].reshape(outputs, -1 if keep.any() else 0)
    values = np.take_along_axis(weights.T, indices, 1)
    inputs = jnp.asarray(indices.astype(np.int32))
    return Condensed(values=jnp.asarray(values), indices=inputs, shape=weights.shape)


@dense_tangents
def _product(packed: Condensed, x: jax.Array) -> jax.Array:
    """Return (rows, outputs). Rows are the last axis while inputs are gathered, so that they are read side by side."""
    dtype = accumulator(x.dtype, packed.dtype)
    on_cpu = _by_output if x.shape[0] <= _FEW else _by_input
    arguments = x.T.astype(dtype), packed.values.astype(dtype), packed.indices
    return jax.lax.platform_dependent(*arguments, cpu=on_cpu, default=_at_once).T


def _at_once(x: jax.Array, values: jax.Array, indices: jax.Array) -> jax.Array:
    return jnp.sum(_take(x, indices) * values[:, :, None], 1)


def _by_output(x: jax.Array, values: jax.Array, indices: jax.Array) -> jax.Array:
    """Loop over outputs, eight at a time, so that what is gathered stays in the cache of a CPU."""
    return jax.lax.map(lambda output: output[0] @ _take(x, output[1]), (values, indices), batch_size=8)


def _by_input(x: jax.Array, values: jax.Array, indices: jax.Array) -> jax.Array:
    """Loop over the inputs of all outputs, which on a CPU costs less than a loop over outputs for many rows."""

    def add(y: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return y + inputs[0][:, None] * _take(x, inputs[1]), None

    start = jnp.zeros((values.shape[0], x.shape[1]), x.dtype)
    return jax.lax.scan(add, start, (values.T, indices.T), unroll=4)[0]


def _take(x: jax.Array, indices: jax.Array) -> jax.Array:
    return x.at[indices].get(mode="promise_in_bounds")
