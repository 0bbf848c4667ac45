"""The quality of convolution kernels, without data."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_array
from jaxticket.errors import InputError

_NEGLIGIBLE = 0.01  # of the layer's largest weight

# The entropy of random 3 × 3 layers by the logarithm of their number of kernels, fitted by Gavrikov & Keuper.
_LIMIT, _STEEPNESS, _MIDDLE, _OFFSET = 1.2618047, 0.88767525, 2.30436435, -0.31050834


class FilterQuality(NamedTuple):
    """The degeneration of a convolution layer, in four numbers (Gavrikov & Keuper, 2022, CNN Filter DB).

    Attributes:
      sparsity: the part of the kernels whose weights are all below 1 % of the layer's largest.
      entropy: of the variance along the kernels' principal components, base 10; 0 if they repeat one pattern.
      relative_entropy: over that of as many random 3 × 3 kernels; about 1 is random.
      orthogonality: 1 if the filters are orthogonal, 0 if they are all the same.
    """

    sparsity: jax.Array
    entropy: jax.Array
    relative_entropy: jax.Array
    orthogonality: jax.Array


def filter_quality(kernel: jax.Array) -> FilterQuality:
    """Return four numbers about a convolution: `kernel` is (height, width, inputs, outputs).

    The published readings are of 3 × 3 kernels. Raises InputError for other ranks, fewer than two filters or kernels of
    one weight.

    Examples:
      >>> kernel = jnp.ones((3, 3, 1, 4))
      >>> round(float(filter_quality(kernel).orthogonality), 3) == 0
      True
    """
    check_array("kernel", kernel, np.floating)
    if kernel.ndim != 4 or kernel.shape[-1] < 2 or kernel.shape[0] * kernel.shape[1] < 2:
        raise InputError(f"kernel has shape {kernel.shape}; it must be (height, width, inputs, outputs ≥ 2)")
    height, width, inputs, outputs = kernel.shape
    kernels = kernel.reshape(height * width, inputs * outputs).T
    entropy = _variance_entropy(kernels)
    random = _LIMIT / (1 + math.exp(-_STEEPNESS * (math.log2(len(kernels)) - _MIDDLE))) + _OFFSET
    largest = jnp.max(jnp.abs(kernel))
    return FilterQuality(
        sparsity=jnp.mean(jnp.max(jnp.abs(kernels), 1) < _NEGLIGIBLE * jnp.where(largest > 0, largest, 1)),
        entropy=entropy,
        relative_entropy=entropy / random,
        orthogonality=_orthogonality(kernel.reshape(-1, outputs).T),
    )


def _variance_entropy(kernels: jax.Array) -> jax.Array:
    singular = jnp.linalg.svd(kernels - kernels.mean(0, keepdims=True), compute_uv=False)
    variance = jnp.square(singular)
    total = jnp.sum(variance)
    shares = variance / jnp.where(total > 0, total, 1)
    return -jnp.sum(jnp.where(shares > 0, shares * jnp.log10(jnp.where(shares > 0, shares, 1)), 0))


def _orthogonality(filters: jax.Array) -> jax.Array:
    """Return 1 − the mean |cosine| of two filters, as published: sum |G − I| over the pairs."""
    norms = jnp.linalg.norm(filters, axis=1, keepdims=True)
    filters = filters / jnp.where(norms > 0, norms, 1)
    apart = jnp.abs(filters @ filters.T - jnp.eye(len(filters)))
    return 1 - jnp.sum(apart) / (len(filters) * (len(filters) - 1))
