"""The Hessian of the loss at a ticket, by products with vectors: its largest eigenvalue and its trace."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree
from jaxticket._check_trees import check_alike, check_structure
from jaxticket._checks import check_count, check_key, check_number
from jaxticket.errors import InputError
from jaxticket.masks import apply_mask
from jaxticket.typing import Key, Mask, Params

LossOfParams = Callable[[Params], jax.Array]


class Eigenpair(NamedTuple):
    """An eigenvalue of the Hessian, its unit vector, and the residual ‖H v − λ v‖ / |λ|, 0 if they are exact."""

    value: jax.Array
    vector: Params
    residual: jax.Array


def hessian_product(params: Params, loss: LossOfParams, vector: Params) -> Params:
    """Return H v, for the Hessian H of `loss` at `params`, at twice the cost of a gradient (Pearlmutter, 1994).

    Args:
      params: pytree of float arrays.
      loss: params -> scalar.
      vector: pytree with the structure, shapes and dtypes of `params`.

    Returns:
      A pytree with the structure of `params`.

    Raises:
      StructureError: a vector of another structure.
      InputError: a vector of another dtype.

    Examples:
      >>> cubic = lambda p: p["w"][0] ** 2 * p["w"][1]
      >>> hessian_product({"w": jnp.array([3.0, 1.0])}, cubic, {"w": jnp.array([1.0, 0.0])})
      {'w': Array([2., 6.], dtype=float32)}
    """
    vector = check_alike("vector", vector, "params", params)
    for name, v, p in zip(*map(_tree.leaves, (_tree.names(params), vector, params)), strict=True):
        if v is not None and v.dtype != p.dtype:
            raise InputError(f"vector at {name!r} has dtype {v.dtype}, params {p.dtype}; pass the same.")
    return jax.jvp(jax.grad(loss), (params,), (vector,))[1]


def hessian_top(
    params: Params,
    loss: LossOfParams,
    *,
    key: Key,
    mask: Mask | None = None,
    iterations: int = 100,
    tolerance: float = 1e-3,
) -> Eigenpair:
    """Return the Hessian's eigenvalue of largest size, by power iteration (Yao et al., 2020, PyHessian).

    Args:
      params: pytree of float arrays.
      loss: params -> scalar, over all the data that count; with `jax.lax.map` over batches where they are many.
      key: draws the first vector.
      mask: takes the Hessian of the kept weights alone, as the ticket is trained; leaves of None are kept.
      iterations: at most this many products.
      tolerance: the residual at which it stops.

    Returns:
      An Eigenpair.

    Raises:
      InputError: iterations or tolerance that are not above 0.

    Examples:
      >>> loss = lambda p: 2.0 * p["w"][0] ** 2 - 0.5 * p["w"][1] ** 2
      >>> float(hessian_top({"w": jnp.ones(2)}, loss, key=jax.random.key(0)).value)
      4.0
    """
    check_number(iterations=iterations, tolerance=tolerance)
    if iterations < 1 or not tolerance > 0:
        raise InputError(f"iterations={iterations} and tolerance={tolerance} must be above 0")
    check_key("key", key)
    product = _masked_product(loss, params, mask)

    def step(carry: tuple[jax.Array, Eigenpair]) -> tuple[jax.Array, Eigenpair]:
        i, (_, vector, _) = carry
        image = product(vector)
        value = optax.tree.vdot(vector, image)
        rest = optax.tree.norm(jax.tree.map(lambda h, v: h - value * v, image, vector))
        # The pair that is returned is the one whose residual was measured; the image is the next vector.
        converged = rest <= tolerance * jnp.abs(value)
        vector = jax.tree.map(lambda v, h: jnp.where(converged, v, h), vector, _unit(image))
        return i + 1, Eigenpair(value, vector, rest / jnp.maximum(jnp.abs(value), _TINY))

    def resumes(carry: tuple[jax.Array, Eigenpair]) -> jax.Array:
        i, pair = carry
        return (i < iterations) & (pair.residual > tolerance)

    first = _unit(_kept(optax.tree.random_like(key, params), mask))
    start = Eigenpair(jnp.zeros(()), first, jnp.full((), jnp.inf))
    return jax.lax.while_loop(resumes, step, (jnp.int32(0), start))[1]


def hessian_trace(
    params: Params, loss: LossOfParams, *, key: Key, mask: Mask | None = None, samples: int = 100
) -> jax.Array:
    """Return estimates of the Hessian's trace, one a sample: their mean is unbiased (Hutchinson, 1989).

    An estimate is vᵀ H v for a vector of random signs. Pass them to `diagnostics.interval` for the mean with an
    interval.

    Args:
      params: pytree of float arrays.
      loss: params -> scalar, as for `hessian_top`.
      key: draws the signs.
      mask: takes the Hessian of the kept weights alone, as for `hessian_top`.
      samples: the number of products.

    Returns:
      A vector of `samples` estimates.

    Raises:
      InputError: fewer than one sample.

    Examples:
      >>> loss = lambda p: 2.0 * p["w"][0] ** 2 - 0.5 * p["w"][1] ** 2
      >>> hessian_trace({"w": jnp.ones(2)}, loss, key=jax.random.key(0), samples=2)
      Array([3., 3.], dtype=float32)
    """
    check_count(1, samples=samples)
    check_key("key", key)
    product = _masked_product(loss, params, mask)

    def estimate(key: Key) -> jax.Array:
        signs = _kept(optax.tree.random_like(key, params, sampler=jax.random.rademacher), mask)
        return optax.tree.vdot(signs, product(signs))

    return jax.lax.map(estimate, jax.random.split(key, samples))


_TINY = 1e-30  # a Hessian of zeros has no direction: its residual is then 0


def _masked_product(loss: LossOfParams, params: Params, mask: Mask | None) -> Callable[[Params], Params]:
    if mask is not None:
        mask = check_structure("mask", mask, "params", params)
        params = apply_mask(params, mask)
    return lambda vector: _kept(hessian_product(params, loss, vector), mask)


def _kept(tree: Params, mask: Mask | None) -> Params:
    return tree if mask is None else apply_mask(tree, mask)


def _unit(vector: Params) -> Params:
    norm = optax.tree.norm(vector)
    return jax.tree.map(lambda v: v / jnp.maximum(norm, _TINY), vector)
