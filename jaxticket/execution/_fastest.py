"""The forms that a mask admits, and the fastest of them."""

import jax
import numpy as np

from jaxticket.execution._bcsr import pack_bcsr
from jaxticket.execution._blocks import pack_blocks
from jaxticket.execution._condensed import pack_condensed
from jaxticket.execution._dense import pack_dense
from jaxticket.execution._measure import Choice, measure
from jaxticket.execution._nm import pack_nm
from jaxticket.execution._packed import Packed, on_host

_SIZES = (128, 64, 32, 16, 8, 4, 2, 1)  # of blocks
_GROUPS = (4, 8, 16, 32)  # of N:M


def fastest(
    kernel: jax.Array | np.ndarray,
    mask: jax.Array | np.ndarray,
    *,
    batch: int,
    backward: bool = False,
    rounds: int = 15,
) -> Choice:
    """Measure every form that a mask admits, and return the fastest: dense unless another one is surely faster.

    The result depends on the device, its load and the batch. `measure` says how it is chosen.

    Args:
      kernel: float array (inputs, outputs).
      mask: bool array that broadcasts to the kernel.
      batch: the number of rows of the inputs, such as examples × tokens.
      backward: whether the time includes the gradients with respect to the inputs and the kept weights.
      rounds: the number of times that each form is timed.

    Returns:
      A Choice.

    Raises:
      InputError: a kernel that is not a matrix of floats, a mask that does not fit it, traced arrays, or
        counts below 1.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> kernel = jax.random.normal(jax.random.key(0), (64, 32))
      >>> choice = fastest(kernel, jnp.abs(kernel) > 2, batch=8, rounds=3)
      >>> sorted(choice.seconds), choice.saving >= 0
      (['bcsr', 'dense', 'nm'], True)
    """
    return measure(pack_all(kernel, mask), batch=batch, backward=backward, rounds=rounds)


def pack_all(kernel: jax.Array | np.ndarray, mask: jax.Array | np.ndarray) -> dict[str, Packed]:
    """Pack a kernel in every form that its mask admits.

    Args:
      kernel: float array (inputs, outputs).
      mask: bool array that broadcasts to the kernel.

    Returns:
      dict of "dense", "bcsr", and where they exist "nm" (in the groups of 4, 8, 16 or 32 that store least),
      "condensed" and "blocks" (the largest whose sides are powers of two up to 128, and more than 1 × 1).

    Raises:
      InputError: a kernel that is not a matrix of floats, a mask that does not fit it, or traced arrays.

    Examples:
      >>> import jax.numpy as jnp
      >>> list(pack_all(jnp.ones((4, 4)), jnp.eye(4, dtype=bool)))
      ['dense', 'bcsr', 'nm', 'condensed']
    """
    weights, keep = on_host(kernel, mask)
    forms: dict[str, Packed] = {"dense": pack_dense(weights, keep), "bcsr": pack_bcsr(weights, keep)}
    stored, n, m = min((_most(keep, m) * -(-len(keep) // m), _most(keep, m), m) for m in _GROUPS)
    if stored < len(keep):
        forms["nm"] = pack_nm(weights, keep, n=n, m=m)
    fan_in = keep.sum(0)
    if fan_in.min() == fan_in.max():
        forms["condensed"] = pack_condensed(weights, keep)
    block = _side(keep), _side(keep.T)
    if block != (1, 1):
        forms["blocks"] = pack_blocks(weights, keep, block=block)
    return forms


def _most(keep: np.ndarray, m: int) -> int:
    """Return the most inputs that a group of m keeps."""
    padded = np.pad(keep, ((0, -keep.shape[0] % m), (0, 0)))
    return int(padded.reshape(-1, m, keep.shape[1]).sum(1).max())


def _side(keep: np.ndarray) -> int:
    """Return the largest size of blocks along axis 0 in which the mask is constant: the axis where it never changes."""
    changes = 1 + np.flatnonzero(np.any(keep[1:] != keep[:-1], 1))
    if changes.size == 0:
        return keep.shape[0]
    return next(size for size in _SIZES if size == 1 or not np.any(changes % size))
