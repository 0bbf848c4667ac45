"""N:M sparsity: at most n of each m consecutive inputs, with their positions within the group."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_count
from jaxticket.errors import InputError
from jaxticket.execution._packed import Packed, accumulator, on_host


@functools.partial(jax.tree_util.register_dataclass, data_fields=("values", "positions"), meta_fields=("shape", "m"))
@dataclasses.dataclass(frozen=True)
class NM(Packed):
    """A kernel that keeps at most n of each m consecutive inputs of an output.

    Attributes:
      values: (groups, n, outputs), zeros where a group keeps fewer than n.
      positions: uint8 (groups, n, outputs), the place of each value in its group; m where a group keeps fewer than n.
      shape: (inputs, outputs), static. The last group may be smaller than m.
      m: the number of inputs in a group, static.
    """

    values: jax.Array
    positions: jax.Array
    shape: tuple[int, int]
    m: int

    def dense(self) -> jax.Array:
        inputs, outputs = self.shape
        return self._groups(self.values).reshape(-1, outputs)[:inputs]

    def product(self, x: jax.Array) -> jax.Array:
        dtype = accumulator(x.dtype, self.dtype)
        return jnp.matmul(x, self.dense(), preferred_element_type=dtype)

    def _groups(self, values: jax.Array) -> jax.Array:
        """Return the kernel as (groups, m, outputs). A sum of selections: its gradient gathers nothing either."""
        place = jnp.arange(self.m, dtype=jnp.uint8)[None, :, None]
        kernel = jnp.zeros((), values.dtype)
        for i in range(values.shape[1]):
            kernel = jnp.where(self.positions[:, i, None, :] == place, values[:, i, None, :], kernel)
        return jnp.broadcast_to(kernel, (values.shape[0], self.m, values.shape[2]))


def pack_nm(kernel: jax.Array | np.ndarray, mask: jax.Array | np.ndarray, *, n: int, m: int) -> NM:
    """Pack a kernel of which a mask keeps at most n of each m consecutive inputs.

    Such masks are selected with `scope=scopes.groups(m)` at density n / m.

    Args:
      kernel: float array (inputs, outputs).
      mask: bool array that broadcasts to the kernel.
      n: the most inputs that a group keeps.
      m: the number of inputs in a group, at most 255; the last group may be smaller.

    Returns:
      An NM kernel.

    Raises:
      InputError: a group that keeps more than n, sizes that are not counts, a kernel that is not a matrix of floats, a
        mask that does not fit it, or traced arrays.

    Examples:
      >>> import jax.numpy as jnp
      >>> kernel = jnp.array([[1.0], [0.0], [0.0], [4.0]])
      >>> packed = pack_nm(kernel, kernel != 0, n=1, m=2)
      >>> packed.values.ravel(), packed.positions.ravel()
      (Array([1., 4.], dtype=float32), Array([0, 1], dtype=uint8))

    References:
      Zhou et al., `Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch
      <https://arxiv.org/abs/2102.04010>`_, 2021
    """
    weights, keep = on_host(kernel, mask)
    check_count(0, n=n)
    check_count(1, m=m)
    n, m = int(n), int(m)
    if m > 255:
        raise InputError(f"m={m} must be at most 255, so that a position is a byte; use execution.pack_condensed.")
    inputs, outputs = weights.shape
    rest = ((0, -inputs % m), (0, 0))
    keep = np.pad(keep, rest).reshape(-1, m, outputs)
    weights = np.pad(weights, rest).reshape(keep.shape)
    counts = keep.sum(1)
    if np.any(counts > n):
        group, output = np.argwhere(counts > n)[0]
        raise InputError(
            f"mask keeps {counts[group, output]} of the inputs {group * m} to {group * m + m - 1} of output {output}, "
            f"more than n={n} of m={m}; select the mask with scope=scopes.groups({m}) at density {n}/{m}, or pass "
            f"n={counts.max()}."
        )
    first = np.argsort(~keep, axis=1, kind="stable")[:, :n]
    here = np.take_along_axis(keep, first, 1)
    values = np.where(here, np.take_along_axis(weights, first, 1), np.zeros((), weights.dtype))
    positions = np.where(here, first, m).astype(np.uint8)
    return NM(values=jnp.asarray(values), positions=jnp.asarray(positions), shape=(inputs, outputs), m=m)
