"""Masks that are made again from the current weights at each period, whatever the mask before."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxticket import filters, scopes, scores, units
from jaxticket._batching import any_replicate
from jaxticket._check_trees import check_fits, check_updates
from jaxticket._dtypes import widen
from jaxticket.scopes import Scope
from jaxticket.transforms._base import MaskTransform
from jaxticket.transforms._constraints import land_on_zeros, move, require_params
from jaxticket.transforms._start import best, full_mask
from jaxticket.typing import Density, Filter, Key, Mask, Params, Period, PyTree, ScoreFn
from jaxticket.units import Unit


def remake(
    score: ScoreFn,
    density: Density,
    *,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> MaskTransform:
    """Keep, at each refresh, the best-scored of all units, those that are zero included: FPGM's training.

    With `scores.fpgm()`, `units.axis(-1)` and a refresh at the end of each epoch these are the masks of He et al.
    (2019): gradients are masked in between, so that a pruned filter rests at zero and seldom comes back. Soft filter
    pruning, where it trains on, is `soft_prune`.

    Args:
      score: the importance of a weight, called without a mask.
      density: the fraction kept, or a pytree of them by leaf.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified, if no mask was given.

    Returns:
      The mask transform.

    Examples:
      >>> t = remake(scores.magnitude, 0.5)
      >>> params = {"w": jnp.array([[1.0, 3.0]])}
      >>> mask, state = t.init(params, None, key=None)
      >>> t.update(mask, state, params={"w": -params["w"][:, ::-1]}, grads=None, count=0, key=None, aux=None)[0]
      {'w': Array([[ True, False]], dtype=bool)}
    """

    def make(params: Params, full: Mask, **signals: Any) -> Mask:
        return best(score, params, density, unit=unit, scope=scope, mask=full, **signals)

    def init(params: Params, mask: Mask | None, *, key: Key | None) -> tuple[Mask, PyTree]:
        return make(params, full_mask(params, where, unit), key=key) if mask is None else mask, ()

    def update(
        mask: Mask, state: PyTree, *, params: Params, grads: Params, count: jax.Array, key: Key | None, aux: PyTree
    ) -> tuple[Mask, PyTree]:
        del count
        mask = check_fits(params, mask)
        full = jax.tree.map(jnp.ones_like, mask)
        return make(params, full, grads=grads, key=key, aux=aux), state

    return MaskTransform(init, update, unit=unit)


def soft_prune(
    density: Density,
    *,
    when: Period,
    score: ScoreFn = scores.magnitude,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> optax.GradientTransformation:
    """Set the worst-scored units to zero at each period, and let them train on (soft filter pruning; He et al., 2018).

    It comes last in a chain. Unlike under `sparsify`, gradients are not masked, the optimizer keeps its moments, and
    parameters are sparse right after a period alone: let the training end with one. For filters by their norm, as in
    the paper, take `unit=units.axis(-1, reduce=units.l2)` and `when=schedules.every(steps_per_epoch)`. The authors also
    prune once before the first epoch.

    Args:
      density: the fraction kept, or a pytree of them by leaf.
      when: the numbers of updates after which units are set to zero.
      score: the importance of a weight.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are pruned.

    Returns:
      The optax transform.

    Raises:
      InputError: a density outside [0, 1], or `update` without params.

    Examples:
      >>> from jaxticket import schedules
      >>> tx = optax.chain(optax.sgd(1.0), soft_prune(0.5, when=schedules.every(1)))
      >>> params = {"w": jnp.array([[1.0, 2.0]])}
      >>> updates, _ = tx.update({"w": jnp.array([[-3.0, 1.0]])}, tx.init(params), params)
      >>> optax.apply_updates(params, updates)["w"]
      Array([[4., 0.]], dtype=float32)
    """

    def init(params: Params) -> jax.Array:
        del params
        return jnp.zeros((), jnp.int32)

    def update(updates: Params, count: jax.Array, params: Params | None = None) -> tuple[Params, jax.Array]:
        params = require_params(params, "soft_prune")
        updates, params = check_updates("updates", updates, params)
        updates = jax.tree.map(widen, updates, params)
        count = optax.safe_increment(count)
        due = when(count)

        def land() -> Params:
            moved = move(params, updates)
            kept = best(score, moved, density, unit=unit, scope=scope, mask=full_mask(params, where, unit))
            # Under vmap this branch runs if any replicate is due; the others keep what they have.
            return jax.tree.map(
                lambda new, old: old if new is old else jnp.where(due, new, old),
                land_on_zeros(updates, params, kept),
                updates,
            )

        return jax.lax.cond(any_replicate(due), land, lambda: updates), count

    return optax.GradientTransformation(init, update)
