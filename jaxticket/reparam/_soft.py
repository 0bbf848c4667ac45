"""Soft masks that are computed from the weights themselves, and harden."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters, schedules, scopes, units
from jaxticket._checks import check_number
from jaxticket._dtypes import wide
from jaxticket.errors import InputError
from jaxticket.reparam._base import Reparam, copy_params
from jaxticket.scopes import Scope
from jaxticket.selection import select
from jaxticket.transforms._lengths import derive, part
from jaxticket.typing import Density, Filter, Key, Mask, Params, PyTree, Scores, SoftMask
from jaxticket.units import Unit


def pdp(
    density: Density,
    *,
    steps: int | None = None,
    start: int | None = None,
    ramp: int | None = None,
    stop: int | None = None,
    temperature: float | Callable[[jax.Array], jax.Array] = 1e-4,
    unit: Unit = units.element(),
    scope: Scope = scopes.tree(),
    where: Filter = filters.weights(),
) -> Reparam:
    """Gate weights by their distance from the pruning threshold, without parameters (PDP; Cho et al., 2023).

        p = θ · σ((θ² − t²) / τ)

    t lies halfway between the smallest weight that is kept and the largest that is not, and is held constant when
    differentiating. At the threshold the gradient is that of a dense weight or more, so weights there decide. The
    network is dense before `start`; then the sparsity grows evenly over `ramp` steps; from `stop` on the mask is hard,
    and still chosen at each step.

    With `scopes.tree()` one ranking of all weights gives each leaf its density, again at each step. The paper keeps the
    densities of `start`: those are `allocate.from_scores(...)` of warm weights, over `scopes.leaf()`.

    Args:
      density: the fraction kept after the ramp, or a pytree of them by leaf.
      steps: the length of the training, of which a twentieth is then dense, half is the ramp, and nine tenths pass
        before the mask is hard; the last tenth trains the ticket.
      start: the update at which the ramp starts.
      ramp: its length in updates.
      stop: the update from which on the mask is hard.
      temperature: τ, of the squared scale of the weights (the authors' 1e-4; others take 1e-5), or a function of t².
      unit: weights that share a gate; `units.axis(-1, reduce=units.l2)` gates channels by their norm.
      scope: units that compete with each other; `scopes.groups(4)` is N:M.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Raises:
      InputError: densities outside [0, 1], steps that are not in order, or a temperature that is not positive.

    Examples:
      >>> import jax.numpy as jnp
      >>> soft = pdp(0.5, start=0, ramp=1, stop=10, temperature=1.0)
      >>> latent = soft.init({"w": jnp.array([[1.0, 3.0]])})
      >>> soft.realise(latent, count=0)["w"].round(2), soft.realise(latent, count=10)["w"]
      (Array([[0.05, 2.98]], dtype=float32), Array([[0., 3.]], dtype=float32))
    """
    start, ramp = derive(steps, 0.05, start=start), derive(steps, 0.5, ramp=ramp)
    stop = max(start + ramp, part(steps, 0.9)) if stop is None and steps is not None else derive(steps, 0.9, stop=stop)
    check_number(start=start, ramp=ramp, stop=stop)
    if start < 0 or ramp < 1 or stop < start + ramp:
        raise InputError(f"start={start}, ramp={ramp}, stop={stop} must satisfy 0 ≤ start, 1 ≤ ramp ≤ stop − start.")
    if not callable(temperature) and not temperature > 0:
        raise InputError(f"temperature={temperature} must be positive; 1e-4 is the authors'.")
    due = schedules.DensitySchedule(1.0, density, lambda count: 1 - jnp.clip(count - start + 1, 0, ramp) / ramp)

    def init(params: Params, *, key: Key | None = None) -> Params:
        del key
        filters.only(params, where)  # raises if nothing matches
        return copy_params(params)

    def compute_gates(latent: Params, count: jax.Array) -> _Gated:
        norms = _norms(filters.only(latent, where), unit)
        ranked = jax.lax.stop_gradient(norms)
        kept = select(ranked, due(count), scope=scope)

        def gate(norm: jax.Array, t: jax.Array) -> jax.Array:
            tau = jnp.maximum(temperature(t * t) if callable(temperature) else temperature, jnp.finfo(t.dtype).tiny)
            return jnp.where(count < start, 1, jax.nn.sigmoid((norm * norm - t * t) / tau))

        soft = _tree.map_present(gate, norms, _thresholds(ranked, kept, scope))
        return _Gated(unit.expand(kept, latent), unit.expand(soft, latent))

    def mask(latent: Params, *, count: Any) -> Mask:
        return compute_gates(jax.lax.stop_gradient(latent), jnp.asarray(count)).mask

    def realise(latent: Params, *, count: Any, key: Key | None = None) -> Params:
        del key
        count = jnp.asarray(count)
        chosen = compute_gates(latent, count)

        def apply_gate(p: jax.Array, m: jax.Array | None, gate: jax.Array | None) -> jax.Array:
            if m is None or gate is None:
                return p
            return jnp.where(count >= stop, jnp.where(m, p, 0), (gate * p).astype(p.dtype))

        return _tree.tree_map(apply_gate, latent, *chosen)

    return Reparam(init, realise, mask)


class _Gated(NamedTuple):
    """The mask of what would be kept now, and gates in [0, 1]."""

    mask: Mask
    gates: SoftMask


def _norms(weights: Params, unit: Unit) -> Scores:
    """Return norms of units in float32 or wider, since 16 bits cannot hold the squares of small weights."""
    sizes = _tree.map_present(lambda p: wide(jnp.abs(p)), weights)
    # A norm of zeros has no derivative, but its square has: that is 0.
    empty = _tree.map_present(lambda norm: norm == 0, unit.pool(jax.lax.stop_gradient(sizes)))
    sizes = _tree.map_present(lambda s, e: jnp.where(e, 1, s), sizes, unit.expand(empty, sizes))
    return _tree.map_present(lambda norm, e: jnp.where(e, 0, norm), unit.pool(sizes), empty)


def _thresholds(norms: Scores, kept: Mask, scope: Scope) -> PyTree:
    """Return (smallest kept + largest other) / 2 in each group, 0 where all are kept: two reductions, no sort."""

    scopes_by_leaf = scope.bind(norms)

    def smallest(norm: jax.Array, keep: jax.Array, scope: Scope) -> jax.Array:
        inside = jnp.where(scope.view(keep), scope.view(norm), jnp.inf)
        return jnp.min(inside, scope.axes(norm.shape), keepdims=True, initial=jnp.inf)

    def largest(norm: jax.Array, keep: jax.Array, scope: Scope) -> jax.Array:
        outside = jnp.where(scope.view(~keep), scope.view(norm), -1)
        return jnp.max(outside, scope.axes(norm.shape), keepdims=True, initial=-1)

    low, high = (_tree.map_present(extreme, norms, kept, scopes_by_leaf) for extreme in (smallest, largest))
    if scope.joint:
        low, high = _over_leaves(jnp.minimum, low), _over_leaves(jnp.maximum, high)

    def halfway(low: jax.Array, high: jax.Array, norm: jax.Array, scope: Scope) -> jax.Array:
        t = jnp.where(high < 0, 0, (low + high) / 2)
        view = jax.eval_shape(scope.view, norm).shape
        return scope.unview(jnp.broadcast_to(t, view), norm.shape)

    return _tree.map_present(halfway, low, high, norms, scopes_by_leaf)


def _over_leaves(reduce: Callable[[jax.Array, jax.Array], jax.Array], tree: PyTree) -> PyTree:
    leaves = jax.tree.leaves(tree)
    if not leaves:
        return tree
    total = functools.reduce(reduce, [x.reshape(()) for x in leaves])
    return _tree.map_present(lambda x: total.reshape(x.shape), tree)
