"""Gradients averaged over steps, for mask transforms that should not depend on a single batch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket._check_trees import check_arrays
from jaxticket._checks import check_number, known
from jaxticket._dtypes import wide_dtype
from jaxticket.errors import InputError
from jaxticket.transforms._base import MaskTransform, from_exchange, refresh
from jaxticket.typing import Key, Mask, Params, PyTree


def average_gradients(transform: MaskTransform, *, decay: float = 0.9) -> MaskTransform:
    """Give `transform` running averages of the raw gradients instead of the gradients of the step.

    The moments of the inner optimizer come from masked gradients; these averages cover dead weights too. SNFS grows by
    them (Dettmers & Zettlemoyer, 2019). They start at zero, cost one array of the size of the parameters, and include
    the gradient of the step itself.

    Args:
      transform: the mask transform that gets the averages as `grads`.
      decay: the decay of the average per step, in [0, 1): avg ← decay · avg + (1 − decay) · gradient.

    Returns:
      The mask transform.

    Raises:
      InputError: another decay, or a `transform` that observes gradients itself.

    Examples:
      >>> from jaxticket import scores, transforms
      >>> evolve = average_gradients(transforms.regrow(scores.magnitude, scores.gradient, 0.3))
    """
    check_number(decay=decay)
    if not 0 <= known(decay) < 1:
        raise InputError(f"decay={decay} must be at least 0 and below 1, such as 0.9.")
    if transform.observe is not None:
        raise InputError("transform observes gradients by itself; average inside it, or leave average_gradients() out.")

    def init(params: Params, mask: Mask | None, *, key: Key | None) -> tuple[Mask | None, PyTree]:
        check_arrays("params", params)
        mask, state = transform.init(params, mask, key=key)
        return mask, (state, jax.tree.map(_zeros, params))

    def exchange(mask: Mask, states: PyTree, *, grads: Params, **signals: Any) -> tuple[Mask, Mask, PyTree]:
        del grads
        state, average = states
        mask, kept, state = refresh(transform, mask, state, grads=average, **signals)
        return mask, kept, (state, average)

    def observe(states: PyTree, *, params: Params, grads: Params) -> PyTree:
        del params
        state, average = states
        return state, jax.tree.map(functools.partial(_step, decay), average, grads)

    return from_exchange(init, exchange, observe, narrows=transform.narrows, unit=transform.unit)


def _step(decay: float, average: jax.Array, grad: jax.Array) -> jax.Array:
    if grad.dtype == jax.dtypes.float0:  # of an integer
        return average
    return decay * average + (1 - decay) * grad.astype(average.dtype)


def _zeros(p: jax.Array) -> jax.Array:
    """Return zeros in float32 at least: in half precision a running average stands still once it is large."""
    return jnp.zeros_like(p, dtype=wide_dtype(p.dtype))
