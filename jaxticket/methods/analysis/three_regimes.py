"""The three regimes of pruning, which decide whether a hotter training of the dense network helps (Zhou et al., 2023).

Temperature is how noisily or how briefly the dense network was trained, load how much was pruned from it. Two
retrainings of one pruned network show the regime: by their error on training examples, and by the path between them.
"""

import enum

import jax
import jax.numpy as jnp

from jaxticket.errors import InputError

__all__ = ["Regime", "mode_connectivity", "regime"]


class Regime(enum.Enum):
    """The regimes, by the retrainings of a pruned network."""

    UNDERFITTED = "I"  # they do not train well, and a barrier lies between them: too heavy a load
    DISCONNECTED = "II-A"  # they train well, but a barrier lies between them
    CONNECTED = "II-B"  # they train well, and no barrier lies between them


def mode_connectivity(errors: jax.Array) -> jax.Array:
    """Return mean(E(0), E(1)) − E(t*), where t* is the point of the path that lies farthest from that mean.

    It is below 0 at a barrier, about 0 for well connected networks, and above 0 if the path is lower in the middle.
    This is the sign of Zhou et al. (2023), opposite to that of `diagnostics.Barrier.height`.

    Args:
      errors: (…, points) on a straight path from one network to another, both ends included; of training examples.

    Returns:
      (…) connectivities.

    Raises:
      InputError: fewer than three points.

    Examples:
      >>> mode_connectivity(jnp.array([1.0, 0.25, 0.0, 0.25, 1.0])), mode_connectivity(jnp.array([0.0, 1.0, 0.0]))
      (Array(1., dtype=float32), Array(-1., dtype=float32))
    """
    if jnp.ndim(errors) < 1 or errors.shape[-1] < 3:
        raise InputError(f"errors has shape {jnp.shape(errors)}; pass both ends of a path and points between them")
    differences = (errors[..., :1] + errors[..., -1:]) / 2 - errors
    farthest = jnp.argmax(jnp.abs(differences), -1, keepdims=True)
    return jnp.take_along_axis(differences, farthest, -1)[..., 0]


def regime(train_error: float, connectivity: float, *, high: float = 0.05, tolerance: float = 0.02) -> Regime | None:
    """Return the regime of a pruned network, or None for bad training without a barrier, which is none of the three.

    The paper draws its boundaries by eye; these thresholds are proposals.

    Args:
      train_error: the error of retrained networks on training examples, as a fraction.
      connectivity: `mode_connectivity` of two retrainings, as a fraction.
      high: the largest error of networks that train well.
      tolerance: there is a barrier below −tolerance. The default is noise in instability analysis (Frankle et al.,
        2020).

    Returns:
      The regime, or None.

    Raises:
      InputError: negative thresholds.

    Examples:
      >>> regime(0.2, -0.1).value, regime(0.0, -0.1).value, regime(0.0, 0.001).value, regime(0.2, 0.001)
      ('I', 'II-A', 'II-B', None)
    """
    if high < 0 or tolerance < 0:
        raise InputError(f"high={high} and tolerance={tolerance} must not be negative")
    trained, barrier = train_error <= high, connectivity < -tolerance
    if barrier:
        return Regime.DISCONNECTED if trained else Regime.UNDERFITTED
    return Regime.CONNECTED if trained else None
