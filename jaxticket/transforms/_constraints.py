"""Fixed masks: optax transforms for the end of a chain."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree
from jaxticket._check_trees import check_fits, check_updates
from jaxticket._dtypes import widen
from jaxticket.errors import InputError
from jaxticket.masks import apply_mask
from jaxticket.typing import Mask, Params, PyTree


def keep_params_sparse(mask: Mask) -> optax.GradientTransformation:
    """Keep parameters at exact zeros outside the mask; last in a chain.

        u ← u where m, −p elsewhere

    Whatever momentum or weight decay do before it, `optax.apply_updates` then gives exact zeros for finite parameters.

    Args:
      mask: the structure of the parameters; None leaves are left alone.

    Returns:
      The optax transform.

    Raises:
      InputError: `update` is called without params.
      StructureError: the trees differ.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> tx = optax.chain(optax.sgd(0.5), keep_params_sparse(jnp.array([True, False])))
      >>> params = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([1.0, 1.0]), tx.init(params), params)
      >>> optax.apply_updates(params, updates)
      Array([0.5, 0. ], dtype=float32)
    """

    def update(updates: Params, state: PyTree, params: Params | None = None) -> tuple[Params, PyTree]:
        params = require_params(params, "keep_params_sparse")
        updates, params = check_updates("updates", updates, params, mask=mask)
        return land_on_zeros(updates, params, check_fits(params, mask)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def freeze(mask: Mask) -> optax.GradientTransformation:
    """Train the entries inside the mask and leave all others as they are; last in a chain.

        u ← u where m, 0 elsewhere

    Args:
      mask: the structure of the parameters; None leaves train as usual.

    Returns:
      The optax transform.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> tx = optax.chain(optax.sgd(0.5), freeze(jnp.array([True, False])))
      >>> params = jnp.array([1.0, 1.0])
      >>> updates, _ = tx.update(jnp.array([1.0, 1.0]), tx.init(params), params)
      >>> optax.apply_updates(params, updates)
      Array([0.5, 1. ], dtype=float32)
    """

    def update(updates: Params, state: PyTree, params: Params | None = None) -> tuple[Params, PyTree]:
        del params
        return apply_mask(updates, mask), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def masked_update(
    inner: optax.GradientTransformationExtraArgs, grads: Params, state: PyTree, params: Params, mask: Mask, **extra: Any
) -> tuple[Params, PyTree]:
    """Take a step of `inner` under a mask, as every training here does; `params` are masked already.

    The gradients are masked before `inner` sees them. The caller undoes what the updates do outside the mask:
    `sparsify` lands the updates on zeros, a `Recipe` masks the parameters. Both give the same weights; the second lets
    XLA contract p + u into one rounding.

    Returns:
      The updates of `inner`, and its state.
    """
    return inner.update(apply_mask(grads, mask), state, params, **extra)


def move(params: Params, updates: Params) -> Params:
    """Return the updated parameters, as `optax.apply_updates` does; those with updates of float0, integers, stay."""

    def add(p: jax.Array | None, u: jax.Array | None) -> jax.Array | None:
        if p is None or u is None or u.dtype == jax.dtypes.float0:
            return p
        moved: jax.Array = optax.apply_updates(p, u)
        return moved

    return _tree.tree_map(add, params, updates)


def land_on_zeros(updates: Params, params: Params, mask: Mask) -> Params:
    """Return the updates that take the parameters outside the mask to exact zeros."""

    def land(m: jax.Array | None, u: jax.Array | None, p: jax.Array | None) -> jax.Array | None:
        if m is None or u is None or p is None:
            return u
        u = widen(u, p)
        return jnp.where(m, u, -p.astype(u.dtype))

    return _tree.tree_map(land, mask, updates, params)


def require_params(params: Params | None, name: str) -> Params:
    """Return the params, or raise InputError if the caller of `update` left them out."""
    if params is None:
        raise InputError(f"{name}: params=None; call tx.update(grads, state, params).")
    return params
