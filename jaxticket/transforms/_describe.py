"""The numbers of a plan before it trains."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxticket import _layers, masks
from jaxticket._check_trees import check_arrays
from jaxticket.errors import InputError
from jaxticket.masks import Summary
from jaxticket.transforms._base import Plan, refresh
from jaxticket.typing import Key, Mask, Params, Period

_HORIZON = 1 << 22  # longer than trainings whose plans stop


def describe(plan: Plan, params: Params) -> Summary:
    """Return what a plan prunes, to which density, and what it leaves dense: the numbers of its last mask.

    The last mask is that of the last refresh, made from the first one in one step, by these parameters, which also
    stand for gradients and moments. Where units of all leaves compete, the densities of the leaves are therefore those
    of these parameters. In all other scopes they are exact.

    Args:
      plan: the result of an alias (`rigl`, `gradual`, …), or a `Plan`.
      params: the dense parameters.

    Returns:
      A Summary, which prints as a table: "dense" is what the plan leaves alone.

    Raises:
      InputError: a plan that makes no mask, and as the plan's scores.
      NoMatchError: a filter that matches nothing.

    Examples:
      >>> import jax.numpy as jnp, jaxticket as jt
      >>> params = {"kernel": jnp.ones((5, 4)), "bias": jnp.ones(4)}
      >>> print(jt.describe(jt.gradual(0.1, steps=100), params))
      path      shape   kept  size  density
      -------------------------------------
      bias      (4,)       4     4    dense
      kernel    (5, 4)     2    20   0.1000
      -------------------------------------
      maskable             2    20   0.1000
      all                  6    24   0.2500
    """
    params = _layers.trainable(params)
    check_arrays("params", params)
    return masks.summary(params, _last_mask(plan, params, jax.random.key(0)))


def _last_mask(plan: Plan, params: Params, key: Key) -> Mask:
    mask, state = plan.refresh.init(params, None, key=key)
    if mask is None:
        raise InputError("the plan makes no mask: begin its chain with start(...).")
    count = None if plan.when is None else _last_refresh(plan.when)
    if count is None:
        return mask
    signals = {"params": params, "grads": params, "count": jnp.int32(count), "key": key}
    step = jax.jit(functools.partial(refresh, plan.refresh))
    return step(mask, state, **signals, aux=optax.adam(1.0).init(params))[0]


def _last_refresh(when: Period) -> int | None:
    due = np.flatnonzero(jax.jit(jax.vmap(when))(jnp.arange(_HORIZON, dtype=jnp.int32)))
    return int(due[-1]) if due.size else None
