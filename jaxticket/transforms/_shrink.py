"""Weights that fade instead of being cut at once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree, filters, scopes, scores, units
from jaxticket._check_trees import check_updates
from jaxticket._checks import check_number, known
from jaxticket._dtypes import widen
from jaxticket.errors import InputError
from jaxticket.scopes import Scope
from jaxticket.transforms._constraints import move, require_params
from jaxticket.transforms._start import best, full_mask
from jaxticket.typing import Density, Filter, Params
from jaxticket.units import Unit


class ShrinkState(NamedTuple):
    """The state of `shrink`."""

    count: jax.Array  # type: ignore[assignment]  # steps so far, int32 scalar


def shrink(
    density: Density,
    rate: float,
    *,
    stop: int,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> optax.GradientTransformation:
    """Multiply the weights that are smallest after a step by `rate`, before step `stop`; last but for a mask.

        p + u ← ρ · (p + u)   outside the best-scored part

    The choice of the fading weights is made again at each step, so that any of them can recover (Wang et al., 2023,
    ISS-P). At rate 0 it is iterative hard thresholding.

    Args:
      density: the fraction of weights that do not fade.
      rate: ρ, the factor in [0, 1]; 1 leaves every weight alone.
      stop: the update from which on no weight fades.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.

    Returns:
      The optax transform.

    Raises:
      InputError: a rate outside [0, 1], a negative stop, or `update` without params.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> params = {"w": jnp.array([[1.0, -0.2, 0.5, 0.05]])}
      >>> tx = shrink(0.5, 0.9, stop=10)
      >>> updates, _ = tx.update({"w": jnp.zeros((1, 4))}, tx.init(params), params)
      >>> optax.apply_updates(params, updates)["w"]
      Array([[ 1.        , -0.17999999,  0.5       ,  0.045     ]], dtype=float32)
    """
    check_number(rate=rate, stop=stop)
    if not 0 <= known(rate) <= 1:
        raise InputError(f"rate={rate} must lie between 0 and 1; 0.95 takes a twentieth of a weight at each step.")
    if stop < 0:
        raise InputError(f"stop={stop} must not be negative; it counts updates.")

    def init(params: Params) -> ShrinkState:
        del params
        return ShrinkState(jnp.zeros((), jnp.int32))

    def update(updates: Params, state: ShrinkState, params: Params | None = None) -> tuple[Params, ShrinkState]:
        params = require_params(params, "shrink")
        updates, params = check_updates("updates", updates, params)
        moved = move(params, updates)
        full = full_mask(params, where, unit)
        kept = best(scores.magnitude, moved, density, unit=unit, scope=scope, mask=full)
        fading = state.count < stop

        def fade(keep: jax.Array | None, u: jax.Array, p: jax.Array, new: jax.Array) -> jax.Array:
            if keep is None:
                return u
            u = widen(u, p)
            return jnp.where(keep | ~fading, u, (rate * new - p).astype(u.dtype))

        faded = _tree.tree_map(fade, kept, updates, params, moved)
        return faded, ShrinkState(optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)
