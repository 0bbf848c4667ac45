"""Penalties that shrink chosen weights towards zero, and steps that set them to zero, around any optimizer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree, filters, scopes, scores, units
from jaxticket._check_trees import check_fits, check_updates
from jaxticket._checks import check_number, known
from jaxticket._dtypes import wide, widen
from jaxticket.errors import InputError
from jaxticket.scopes import Scope
from jaxticket.transforms._constraints import land_on_zeros, move, require_params
from jaxticket.transforms._start import best, full_mask
from jaxticket.typing import Density, Filter, Mask, Params, PyTree, Schedule
from jaxticket.units import Unit

_DEAD = 1e-3  # a layer whose scales are all smaller is not used (the authors of MaskSparsity)

Slope = Callable[[jax.Array], jax.Array]


def smooth_sign(width: float) -> Slope:
    """Return the slope of smooth l1: that of l1 from ±width on, linear between, so that a weight can rest at zero.

    In the code of MaskSparsity the width is ηλ, and the slope is p below it, so that it jumps there.

    Raises InputError for a width that is not positive.

    Examples:
      >>> smooth_sign(0.1)(jnp.array([-1.0, 0.05, 0.0]))
      Array([-1. ,  0.5,  0. ], dtype=float32)
    """
    check_number(width=width)
    if not width > 0:
        raise InputError(f"width={width} must be positive: the size below which the slope is smaller.")
    return lambda p: jnp.clip(p / width, -1, 1)


def add_l1(
    strength: float | jax.Array, mask: Mask | Filter | None = None, *, slope: Slope = jnp.sign
) -> optax.GradientTransformation:
    """Add the gradient of an l1 penalty on chosen weights; before the optimizer in a chain.

        g ← g + λ · sign(p)   where m

    With `filters.match("scale$")` it is network slimming (Liu et al., 2017). With the mask of only those scales that
    are to be pruned it is MaskSparsity (Jiang et al., 2021). Other gradients keep their bits. Weights under l1 swing
    about zero by a step; `prox_l1` sets them to zero.

    Args:
      strength: λ, the strength of the penalty.
      mask: True where weights are penalised, which is the complement of a mask of kept weights (`masks.complement`);
        None leaves are not penalised. A filter chooses whole leaves; None penalises all float leaves.
      slope: the derivative of the penalty: `jnp.sign`, `smooth_sign(width)`, or `lambda p: p` for l2.

    Returns:
      The optax transform.

    Raises:
      InputError: a negative strength, or `update` without params.
      StructureError: a mask that does not fit.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> tx = optax.chain(add_l1(0.1, {"scale": jnp.array([False, True])}), optax.sgd(1.0))
      >>> params = {"scale": jnp.array([1.0, -1.0])}
      >>> tx.update({"scale": jnp.ones(2)}, tx.init(params), params)[0]["scale"]
      Array([-1. , -0.9], dtype=float32)
    """
    _check_strength(strength)

    def update(grads: Params, state: PyTree, params: Params | None = None) -> tuple[Params, PyTree]:
        params = require_params(params, "add_l1")

        def penalise(chosen: Any, g: jax.Array | None, p: jax.Array | None) -> jax.Array | None:
            if chosen is None or g is None or p is None:
                return g
            return jnp.where(chosen, g + (strength * slope(p)).astype(g.dtype), g)

        grads, params = check_updates("grads", grads, params)
        return _tree.tree_map(penalise, _chosen(mask, params), grads, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def prox_l1(strength: float | Schedule, mask: Mask | Filter | None = None) -> optax.GradientTransformation:
    """Shrink chosen weights by `strength` after the optimizer's step, and set small ones to zero; last in a chain.

        p + u ← sign(p + u) · max(|p + u| − ηλ, 0)   where m

    It is the proximal step of an l1 penalty. For plain SGD the penalty is λ if `strength` is the learning rate times λ.
    An optimizer that scales gradients does not scale this penalty.

    Args:
      strength: ηλ, or a schedule of it by the count of updates.
      mask: the weights that are penalised, as for `add_l1`.

    Returns:
      The optax transform.

    Raises:
      InputError: a negative strength, or `update` without params.
      StructureError: a mask that does not fit.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> tx = optax.chain(optax.sgd(1.0), prox_l1(0.2))
      >>> params = {"scale": jnp.array([1.0, -0.1])}
      >>> updates, _ = tx.update({"scale": jnp.zeros(2)}, tx.init(params), params)
      >>> optax.apply_updates(params, updates)["scale"]
      Array([0.8, 0. ], dtype=float32)
    """
    if not callable(strength):
        _check_strength(strength)

    def init(params: Params) -> optax.ScaleByScheduleState:
        del params
        return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

    def update(
        updates: Params, state: optax.ScaleByScheduleState, params: Params | None = None
    ) -> tuple[Params, optax.ScaleByScheduleState]:
        params = require_params(params, "prox_l1")
        step = strength(state.count) if callable(strength) else strength

        updates, params = check_updates("updates", updates, params)

        def shrink(chosen: Any, u: jax.Array | None, p: jax.Array | None) -> jax.Array | None:
            if chosen is None or u is None or p is None:
                return u
            u, moved = widen(u, p), optax.apply_updates(p, u)
            shrunk = jnp.where(jnp.abs(moved) > step, u - (step * jnp.sign(moved)).astype(u.dtype), -p.astype(u.dtype))
            return jnp.where(chosen, shrunk, u)

        penalised = _tree.tree_map(shrink, _chosen(mask, params), updates, params)
        return penalised, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


def project_l0(
    density: Density,
    *,
    unit: Unit = units.element(),
    scope: Scope = scopes.tree(),
    where: Filter = filters.weights(),
) -> optax.GradientTransformation:
    """Keep the k largest weights at each step: iterative hard thresholding (Blumensath & Davies, 2009).

    It keeps exactly k and comes last in a chain. Unlike under `sparsify`, the optimizer sees the dense gradients and
    keeps the moments of all weights. Any weight returns whose first step is larger than the smallest survivor. There is
    no schedule, and every step selects. Parameters are sparse from the first update on.

    Args:
      density: the fraction kept, or a pytree of them by leaf.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.

    Returns:
      The optax transform.

    Raises:
      InputError: a density outside [0, 1], or `update` without params.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> tx = optax.chain(optax.sgd(1.0), project_l0(0.5))
      >>> params = {"w": jnp.array([[1.0, 0.0]])}
      >>> updates, _ = tx.update({"w": jnp.array([[0.0, -3.0]])}, tx.init(params), params)
      >>> optax.apply_updates(params, updates)["w"]
      Array([[0., 3.]], dtype=float32)
    """

    def update(updates: Params, state: PyTree, params: Params | None = None) -> tuple[Params, PyTree]:
        params = require_params(params, "project_l0")
        updates, params = check_updates("updates", updates, params)
        moved = move(params, updates)
        full = full_mask(params, where, unit)
        kept = best(scores.magnitude, moved, density, unit=unit, scope=scope, mask=full)
        return land_on_zeros(updates, params, kept), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scales_to_keep(params: Params, *, energy: float = 1e-4, where: Filter | None = None) -> Mask:
    """Return the mask of the scales of a normalisation that carry its layer, by MaskSparsity's optimal thresholds.

    In each leaf the smallest scales go whose squares sum to at most the part `energy` of all (Jiang et al., 2021). A
    leaf always keeps its largest scale, and only that one where all are below 1e-3. The threshold lies between the last
    scale that goes and the first that stays; equal scales stay together. The scales, as few as channels, are sorted
    once.

    Args:
      params: the parameters.
      energy: the part of the squares that may go; 1e-4 is the authors'.
      where: the leaves of scales, by default `filters.match("(^|/)scale$")`.

    Returns:
      A mask, None for other leaves; `add_l1(strength, masks.complement(mask))` shrinks the others to zero.

    Raises:
      InputError: an energy outside [0, 1).
      NoMatchError: no such leaf.

    Examples:
      >>> import jax.numpy as jnp
      >>> scales_to_keep({"scale": jnp.array([0.1, 0.001, 0.2, 0.002])}, energy=1e-3)
      {'scale': Array([ True, False,  True, False], dtype=bool)}
    """
    check_number(energy=energy)
    if not 0 <= known(energy) < 1:
        raise InputError(f"energy={energy} must lie in [0, 1); 1e-4 is the authors'.")

    def keep(scale: jax.Array) -> jax.Array:
        if scale.size == 0:
            return jnp.ones(scale.shape, bool)
        size = wide(jnp.abs(scale))
        rising = jnp.sort(size, axis=None)
        shares = jnp.cumsum(rising * rising)
        first = jnp.argmax(shares > energy * shares[-1])
        largest = jnp.arange(size.size).reshape(size.shape) == jnp.argmax(size)
        return jnp.where(rising[-1] < _DEAD, largest, size >= rising[first])

    chosen = filters.match("(^|/)scale$") if where is None else where
    return _tree.map_present(keep, filters.only(params, chosen))


def _chosen(mask: Mask | Filter | None, params: Params) -> PyTree:
    """Return the penalised part of each leaf: an array or a bool that broadcasts, or None."""
    if mask is None:
        mask = filters.everything()
    if callable(mask) and not _tree.is_bool_tree(mask):
        return _tree.map_present(lambda p: True, filters.only(params, mask))
    return check_fits(params, mask)


def _check_strength(strength: Any) -> None:
    check_number(strength=strength)
    if not isinstance(strength, jax.core.Tracer) and not strength >= 0:
        raise InputError(f"strength={strength} must not be negative.")
