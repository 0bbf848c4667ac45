"""Sparse training as one optax transform, with any optimizer and any plan, and exact zeros at every step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxticket import _layers, _tree
from jaxticket._batching import any_replicate
from jaxticket._check_trees import check_fits, check_leaves, check_shapes, check_updates
from jaxticket._checks import check_key
from jaxticket.errors import InputError, JaxticketError
from jaxticket.masks import apply_mask
from jaxticket.transforms._base import Plan
from jaxticket.transforms._base import refresh as refresh_mask
from jaxticket.transforms._carry import carry_moments
from jaxticket.transforms._constraints import land_on_zeros, masked_update, require_params
from jaxticket.transforms._mismatch import check_owner, explain
from jaxticket.transforms._order import check_comes_last
from jaxticket.transforms._state import SparseState, is_sparse_state, wrap_key
from jaxticket.transforms._surgery import reset_moments, restart_moments
from jaxticket.transforms._unit_mask import UnitMask, expand_mask, hold, hold_as
from jaxticket.typing import Key, Mask, Params, PyTree

_VALUES = 0x76616C75  # "valu": far from the small numbers that scores fold into their key


def sparsify(
    inner: optax.GradientTransformation, plan: Plan, *, key: Key | None = None, mask: Mask | None = None
) -> optax.GradientTransformationExtraArgs:
    """Train with `inner` under a plan: the mask evolves when it is due, and parameters outside it are exact zeros.

    A refresh that is due sees the raw gradients of the step. Then the gradients are masked, newborn weights get the
    optimizer state of a new zero parameter, and `inner` acts. Its updates set everything outside the mask to zero.
    Start from `init(tx, params)`, whose parameters are masked, so that gradients at them are the dense ones. At density
    1 the updates are those of `inner` bit for bit.

    It comes last in a chain. Clipping and averages belong inside (`inner`). MultiSteps and apply_if_finite belong
    outside, and then a step is an optimizer step.

    Args:
      inner: any optax optimizer.
      plan: the result of an alias (`rigl`, `gradual`, …), or a `Plan`.
      key: a typed PRNG key; only plans that draw random numbers need it.
      mask: a mask to start from instead of the plan's own.

    Returns:
      A transform whose state is a `SparseState`; `mask_of` returns its mask.

    Raises:
      InputError: an inner that is not an optimizer or a plan that is not a `Plan`; `update` without params or with the
        state of something else; a stochastic plan without key; a filter that matches nothing.
      StructureError: a mask that does not fit the parameters, or that a refresh would have to widen.

    Examples:
      >>> import jax.numpy as jnp, optax, jaxticket as jt
      >>> tx = jt.sparsify(optax.sgd(0.5, momentum=0.9), jt.static(0.5))
      >>> params, state = jt.init(tx, {"w": jnp.array([[1.0, 3.0]])})
      >>> updates, state = tx.update({"w": jnp.ones((1, 2))}, state, params)
      >>> optax.apply_updates(params, updates)["w"]
      Array([[0. , 2.5]], dtype=float32)
    """
    _check_arguments(inner, plan)
    if key is not None:
        check_key("key", key)
        key = wrap_key(key)
    inner = optax.with_extra_args_support(inner if plan.after is None else optax.chain(inner, plan.after))

    def init(params: Params) -> SparseState:
        given = mask
        check_leaves("params", params)
        if mask is not None:
            given = _tree.map_present(lambda m: jnp.array(m, bool), check_fits(params, mask))
        first, refresh_state = plan.refresh.init(params, given, key=key)
        if first is None:
            raise InputError("the plan makes no mask: begin its chain with start(...), or pass mask=.")
        inner_state = inner.init(apply_mask(params, first))
        # A copy, as of the mask: donating the state must not delete the caller's.
        words = None if key is None else _copy(jax.random.key_data(key))
        first = hold(plan.refresh.unit, first, params, given=mask is not None)
        first, refresh_state = _tree.unwrap_none((first, refresh_state))
        return SparseState(jnp.zeros((), jnp.int32), first, refresh_state, inner_state, words)

    def update(
        grads: Params, state: SparseState, params: Params | None = None, **extra: Any
    ) -> tuple[Params, SparseState]:
        params = require_params(params, "sparsify")
        if not is_sparse_state(state):
            raise InputError(f"state is a {type(state).__name__}, not a SparseState; pass that of tx.init(params).")
        grads, params = check_updates("grads", grads, params, mask=expand_mask(state.mask))
        check_owner(plan, inner, state, params, key=key)
        try:
            return advance(grads, state, params, **extra)
        except JaxticketError:
            raise
        except Exception as error:
            explain(error, init, state, params)
            raise

    def advance(grads: Params, state: SparseState, params: Params, **extra: Any) -> tuple[Params, SparseState]:
        if not isinstance(state.mask, UnitMask):
            state = state._replace(mask=check_fits(params, state.mask, name="the mask in state"))
        held, stayed, born_at, refresh_state, due = _refresh(plan, state, params, grads, key)
        mask, kept = expand_mask(held, params), expand_mask(stayed, params)
        inner_state = _for_newborn(plan, inner, state, params, mask, kept, due)
        # Newborn weights stay at zero through the step that brings them; weights that come back all together do not.
        trained = mask if due is None or plan.newborn == "reset_all" else kept
        updates, stepped = masked_update(inner, grads, inner_state, apply_mask(params, trained), trained, **extra)
        updates = land_on_zeros(updates, params, trained)
        if born_at is not None:
            updates = _tree.tree_map(_land_at, mask, kept, updates, params, born_at)
        steps = optax.safe_increment(state.steps)
        held, refresh_state = _tree.unwrap_none((held, refresh_state))
        return updates, SparseState(steps, held, refresh_state, stepped, state.key)

    return optax.GradientTransformationExtraArgs(init, update)


def init(tx: optax.GradientTransformation, params: Params, *, opt_state: PyTree | None = None) -> tuple[Params, PyTree]:
    """Return masked parameters and the optimizer state, so that step 0 is sparse too.

    Every leaf is a copy: donating them to a compiled step leaves the originals valid.

    Args:
      tx: an optimizer with a `sparsify` somewhere in it.
      params: the dense parameters, or a whole module of equinox, of which the float arrays are trained.
      opt_state: the state with which a dense training of `params` ended, by the same optimizer without `sparsify`; None
        is a fresh start. Moments of kept weights and counts of steps continue from it. Other moments are those of a
        zero parameter. The plan counts its steps from 0.

    Returns:
      The masked parameters and the optimizer state.

    Raises:
      InputError: no `sparsify` in the state, or a transform that follows it in a chain or averages its parameters.
      StructureError: an `opt_state` of another optimizer or of other parameters.

    Examples:
      >>> import jax.numpy as jnp, optax, jaxticket as jt
      >>> jt.init(jt.sparsify(optax.sgd(0.1), jt.static(0.5)), {"w": jnp.array([[1.0, 3.0]])})[0]
      {'w': Array([[0., 3.]], dtype=float32)}
    """
    if not hasattr(tx, "init"):
        raise InputError(f"tx is a {type(tx).__name__}, not an optimizer; jt.init takes it first, then the parameters.")
    trainable = _layers.trainable(params)
    state = tx.init(trainable)
    masked = mask_params(params, state)
    if opt_state is not None:
        state = carry_moments(tx, state, opt_state, trainable, mask=mask_of(state))
    return jax.tree.map(_copy, masked), jax.tree.map(_copy, state)


def mask_params(params: Params, opt_state: PyTree) -> Params:
    """Return the parameters under the mask in an optimizer state, in their own containers.

    Use it where something else calls `tx.init`, such as flax's `TrainState.create` or `nnx.Optimizer`: their parameters
    are dense at step 0 until they are masked. With nnx it is one line,
    `nnx.update(model, jt.mask_params(nnx.state(model, nnx.Param), optimizer.opt_state))`.

    Args:
      params: the parameters. Their containers may be others than those of the state.
      opt_state: the optimizer state, with a `sparsify` somewhere in it.

    Returns:
      The masked parameters.

    Raises:
      InputError: as `init`.
      StructureError: the state of other parameters.

    Examples:
      >>> import jax.numpy as jnp, optax, jaxticket as jt
      >>> params = {"w": jnp.array([[1.0, 3.0]])}
      >>> jt.mask_params(params, jt.sparsify(optax.sgd(0.1), jt.static(0.5)).init(params))
      {'w': Array([[0., 3.]], dtype=float32)}
    """
    check_comes_last(opt_state, SparseState)
    return apply_mask(params, mask_of(opt_state))


def mask_of(opt_state: PyTree) -> Mask:
    """Return the mask in an optimizer state, wherever `sparsify` stands in it: in a chain, a partition, MultiSteps, ….

    Where several `sparsify` divide the parameters among them (`optax.partition`), their masks are put together. Raises
    InputError if there is none.

    Examples:
      >>> import jax.numpy as jnp, optax, jaxticket as jt
      >>> tx = optax.chain(optax.clip(1.0), jt.sparsify(optax.sgd(0.1), jt.static(0.5)))
      >>> jt.mask_of(tx.init({"w": jnp.array([[1.0, 3.0]])}))
      {'w': Array([[False,  True]], dtype=bool)}
    """
    held = [expand_mask(s.mask) for s in jax.tree.leaves(opt_state, is_leaf=is_sparse_state) if is_sparse_state(s)]
    if not held:
        raise InputError("opt_state holds no SparseState; build the optimizer with jaxticket.sparsify.")

    def first(*masks: Any) -> Any:
        return next((m for m in masks if jax.tree.leaves(m)), None)

    ends = lambda x: x is None or isinstance(x, optax.MaskedNode) or _tree.is_wrapper(x)
    return jax.tree.map(first, *held, is_leaf=ends)


def _refresh(
    plan: Plan, state: SparseState, params: Params, grads: Params, like: Key | None
) -> tuple[Mask, Mask, Params | None, PyTree, jax.Array | None]:
    """Return the mask of this step, the weights that stay, the values of newborn ones (None: zeros), the transform's
    state, and whether a refresh was due (None: never). Both masks have the form in which the state holds its own. The
    state's key has the implementation of the key `like`.
    """
    watched = state.refresh
    if plan.refresh.observe is not None:
        watched = plan.refresh.observe(watched, params=params, grads=grads)
    if plan.when is None:
        return state.mask, state.mask, None, watched, None
    due = plan.when(state.steps)
    # Only where weights can be newborn does a second mask pass through the conditional: cheaper than to compare two.
    grows = not plan.refresh.narrows

    impl = None if like is None else jax.random.key_impl(like)

    def refresh() -> tuple[Mask, Mask | None, Params | None, PyTree]:
        key = None if state.key is None else jax.random.fold_in(wrap_key(state.key, impl), state.steps)
        signals = {"params": params, "grads": grads, "count": state.steps, "key": key, "aux": state.inner}
        new, kept, evolved = refresh_mask(plan.refresh, expand_mask(state.mask, params), watched, **signals)
        new, kept = (hold_as(m, state.mask) for m in (new, kept))
        # Under vmap this branch runs if any replicate is due; the others keep what they have. What a refresh leaves as
        # it was (a running average, say) passes by the cond, which would copy it.
        return jax.tree.map(
            lambda new, old: old if new is old else jnp.where(due, new, old),
            (new, kept if grows else None, _values(plan, params, grads, key), evolved),
            rest(),
        )

    def rest() -> tuple[Mask, Mask | None, Params | None, PyTree]:
        values = None if plan.grow_init is None else jax.tree.map(jnp.zeros_like, params)
        return state.mask, state.mask if grows else None, values, watched

    mask, kept, values, evolved = jax.lax.cond(any_replicate(due), refresh, rest)
    return mask, mask if kept is None else kept, values, evolved, due


def _values(plan: Plan, params: Params, grads: Params, key: Key | None) -> Params | None:
    if plan.grow_init is None:
        return None
    values = plan.grow_init(params, grads=grads, key=None if key is None else jax.random.fold_in(key, _VALUES))
    check_shapes("the values of grow_init", values, "params", params)
    return jax.tree.map(lambda v, p: v.astype(p.dtype), values, params)


def _land_at(new: jax.Array | None, kept: jax.Array | None, u: jax.Array, p: jax.Array, value: jax.Array) -> jax.Array:
    return u if new is None or kept is None else jnp.where(new & ~kept, (value - p).astype(u.dtype), u)


def _for_newborn(
    plan: Plan,
    inner: optax.GradientTransformation,
    state: SparseState,
    params: Params,
    mask: Mask,
    kept: Mask,
    due: jax.Array | None,
) -> PyTree:
    if due is None or plan.newborn == "keep" or plan.refresh.narrows:
        return state.inner
    chosen = _tree.map_present(lambda new, stayed: new & ~stayed, mask, kept)
    if plan.newborn == "reset_all":
        born = functools.reduce(jnp.logical_or, map(jnp.any, jax.tree.leaves(chosen)), jnp.bool_(False))
        return restart_moments(inner, state.inner, apply_mask(params, mask), born)
    return reset_moments(inner, state.inner, params, chosen)


def _check_arguments(inner: Any, plan: Any) -> None:
    if not hasattr(inner, "init") or not hasattr(inner, "update"):
        raise InputError(f"inner is a {type(inner).__name__}, not an optax optimizer; sparsify takes it first.")
    if not isinstance(plan, Plan):
        call = "; call it: jt.static(0.1)" if callable(plan) else ", such as jt.static(0.1)"
        raise InputError(f"plan is a {type(plan).__name__}, not a Plan{call}.")


def _copy(x: Any) -> Any:
    return jnp.array(x, copy=True) if isinstance(x, jax.Array) else x
