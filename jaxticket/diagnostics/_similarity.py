"""The similarity of two networks' representations of the same examples."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_array
from jaxticket.errors import InputError


def linear_cka(x: jax.Array, y: jax.Array, *, debiased: bool = False) -> jax.Array:
    """Return the linear centred kernel alignment of two representations, 1 if they are alike (Kornblith et al., 2019).

    It is invariant to rotations and isotropic scaling of either, not to other linear maps.

    Args:
      x: (examples, features), the representation of one network.
      y: (examples, features) of the same examples; the features may differ in number.
      debiased: replaces each inner product by its unbiased estimate (Song et al., 2012). With fewer examples than
        features the plain value is near 1 whatever the representations are. It needs four examples, and may be below 0.

    Returns:
      A scalar.

    Raises:
      InputError: other shapes.

    Examples:
      >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
      >>> round(float(linear_cka(x, 3 * x[:, ::-1])), 5)
      1.0
    """
    check_array("x", x, np.floating)
    check_array("y", y, np.floating)
    least = 4 if debiased else 2
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0] or x.shape[0] < least:
        raise InputError(
            f"x has shape {x.shape} and y {y.shape}; both must be (examples, features) of the same {least} or more"
        )
    x, y = (z - z.mean(0, keepdims=True) for z in (x, y))
    inner = _debiased if debiased else _inner
    return inner(x, y) / jnp.sqrt(inner(x, x) * inner(y, y))


def _inner(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the inner product of the kernels x xᵀ and y yᵀ, as matrices: in whichever form is smaller."""
    if x.shape[0] < max(x.shape[1], y.shape[1]):
        return jnp.sum((x @ x.T) * (y @ y.T))
    return jnp.sum(jnp.square(x.T @ y))


def _debiased(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the inner product without the diagonals, whose expectation is not 0 for unrelated x and y."""
    n = len(x)
    k, m = (z @ z.T * (1 - jnp.eye(n)) for z in (x, y))
    means = jnp.sum(k) * jnp.sum(m) / ((n - 1) * (n - 2))
    return (jnp.sum(k * m) + means - 2 / (n - 2) * jnp.sum(k.sum(0) * m.sum(0))) / (n * (n - 3))
