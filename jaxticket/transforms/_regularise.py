"""Penalties that draw chosen weights to zero, and steps that set them there: optax transforms around any optimizer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree, filters, scopes, scores, units
from jaxticket._checks import check_fits, check_number, check_updates, known
from jaxticket.errors import InputError
from jaxticket.scopes import Scope
from jaxticket.transforms._constraints import land_on_zeros, required
from jaxticket.transforms._start import best, full_mask
from jaxticket.typing import Density, Filter, Mask, Params, PyTree, Schedule
from jaxticket.units import Unit

_DEAD = 1e-3  # a layer whose scales are all smaller is not used (the authors of MaskSparsity)

Slope = Callable[[jax.Array], jax.Array]


def smooth_sign(width: float) -> Slope:
    """The slope of smooth l1: that of l1 from ±width on, straight between, so that a weight can come to rest at zero.

    Raises InputError for a width that is not positive.

    >>> smooth_sign(0.1)(jnp.array([-1.0, 0.05, 0.0]))
    Array([-1. ,  0.5,  0. ], dtype=float32)
    """
    check_number(width=width)
    if not width > 0:
        raise InputError(f"width={width} must be positive: the size below which a weight is drawn less.")
    return lambda p: jnp.clip(p / width, -1, 1)


def add_l1(
    strength: float | jax.Array, mask: Mask | Filter | None = None, *, slope: Slope = jnp.sign
) -> optax.GradientTransformation:
    r"""Adds the gradient of an l1 penalty on chosen weights; before the optimizer in a chain.

    .. math:: g_i \leftarrow g_i + \lambda \, \mathrm{sign}(p_i) \text{ where } m_i

    With `filters.match("scale$")` it is network slimming (Liu et al., 2017). With the mask of the scales that are to be
    pruned, and only those, MaskSparsity (Jiang et al., 2021). Elsewhere gradients keep their bits.

    Args:
      mask: what is penalised: True, so the complement of what is kept (`masks.complement`), None leaves are not; or a
        filter; None penalises all float leaves.
      slope: derivative of the penalty by the weight: `jnp.sign`, `smooth_sign(width)`, or `lambda p: p` for l2.

    Weights under l1 swing about zero by a step; `prox_l1` lands on it. Raises InputError for a negative strength, and
    without params; StructureError for a mask that does not fit.

    >>> import jax.numpy as jnp, optax
    >>> tx = optax.chain(add_l1(0.1, {"scale": jnp.array([False, True])}), optax.sgd(1.0))
    >>> params = {"scale": jnp.array([1.0, -1.0])}
    >>> tx.update({"scale": jnp.ones(2)}, tx.init(params), params)[0]["scale"]
    Array([-1. , -0.9], dtype=float32)
    """
    _check_strength(strength)

    def update(grads: Params, state: PyTree, params: Params | None = None) -> tuple[Params, PyTree]:
        params = required(params, "add_l1")

        def one(chosen: Any, g: jax.Array | None, p: jax.Array | None) -> jax.Array | None:
            if chosen is None or g is None or p is None:
                return g
            return jnp.where(chosen, g + (strength * slope(p)).astype(g.dtype), g)

        check_updates("grads", grads, params)
        return _tree.tree_map(one, _chosen(mask, params), grads, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def prox_l1(strength: float | Schedule, mask: Mask | Filter | None = None) -> optax.GradientTransformation:
    r"""Shrinks what an optimizer's step leaves of chosen weights by `strength`, and lands on exact zeros; comes last.

    .. math:: p_i + u_i \leftarrow \mathrm{sign}(p_i + u_i) \, \max(|p_i + u_i| - \eta\lambda, 0) \text{ where } m_i

    The proximal step of an l1 penalty: of λ, for plain SGD, if `strength` is the learning rate times λ. An optimizer
    that scales gradients scales no penalty here.

    Args:
      strength: ηλ, or a schedule of it by the count of updates. mask: what is penalised, as for `add_l1`.

    Raises InputError for a negative strength, and without params; StructureError for a mask that does not fit.

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
        params = required(params, "prox_l1")
        step = strength(state.count) if callable(strength) else strength

        check_updates("updates", updates, params)

        def one(chosen: Any, u: jax.Array | None, p: jax.Array | None) -> jax.Array | None:
            if chosen is None or u is None or p is None:
                return u
            moved = p + u.astype(p.dtype)
            shrunk = jnp.where(jnp.abs(moved) > step, u - (step * jnp.sign(moved)).astype(u.dtype), -p.astype(u.dtype))
            return jnp.where(chosen, shrunk, u)

        penalised = _tree.tree_map(one, _chosen(mask, params), updates, params)
        return penalised, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


def project_l0(
    density: Density,
    *,
    unit: Unit = units.element(),
    scope: Scope = scopes.tree(),
    where: Filter = filters.weights(),
) -> optax.GradientTransformation:
    """Iterative hard thresholding: each step keeps the largest weights, exactly k of them (Blumensath & Davies, 2009).

    Comes last. Unlike under `sparsify`, the optimizer sees the dense gradients and keeps the moments of all weights, so
    that any weight returns whose first step is larger than the smallest survivor; there is no schedule, and selection
    takes place at every step. Parameters are sparse from the first update on.

    Args:
      density: fraction kept, or a pytree of them by leaf. unit, scope: as for `select`.

    Raises InputError for a density outside [0, 1], and without params.

    >>> import jax.numpy as jnp, optax
    >>> tx = optax.chain(optax.sgd(1.0), project_l0(0.5))
    >>> params = {"w": jnp.array([[1.0, 0.0]])}
    >>> updates, _ = tx.update({"w": jnp.array([[0.0, -3.0]])}, tx.init(params), params)
    >>> optax.apply_updates(params, updates)["w"]
    Array([[0., 3.]], dtype=float32)
    """

    def update(updates: Params, state: PyTree, params: Params | None = None) -> tuple[Params, PyTree]:
        params = required(params, "project_l0")
        check_updates("updates", updates, params)
        moved = jax.tree.map(lambda p, u: p + u.astype(p.dtype), params, updates)
        full = full_mask(params, where, unit)
        kept = best(scores.magnitude, moved, density, unit=unit, scope=scope, mask=full)
        return land_on_zeros(updates, params, kept), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scales_to_keep(params: Params, *, energy: float = 1e-4, where: Filter | None = None) -> Mask:
    """Which scales of a normalisation carry its layer: MaskSparsity's optimal thresholds (Jiang et al., 2021).

    In each leaf the smallest scales go whose squares sum to at most the part `energy` of all. A leaf always keeps its
    largest scale, and only that one where all are below 1e-3. The threshold lies between the last that goes and the
    first that stays; equal scales stay together. The scales are sorted, once: they are as few as channels.

    Args:
      energy: the authors' 1e-4. where: the leaves of scales, by default `filters.match("(^|/)scale$")`.

    Returns:
      A mask, None for other leaves; `add_l1(strength, masks.complement(mask))` draws the others to zero.

    Raises InputError for an energy outside [0, 1), NoMatchError if there is no such leaf.

    >>> import jax.numpy as jnp
    >>> scales_to_keep({"scale": jnp.array([0.1, 0.001, 0.2, 0.002])}, energy=1e-3)
    {'scale': Array([ True, False,  True, False], dtype=bool)}
    """
    check_number(energy=energy)
    if not 0 <= known(energy) < 1:
        raise InputError(f"energy={energy} must lie in [0, 1); 1e-4 is the authors'.")

    def one(scale: jax.Array) -> jax.Array:
        if scale.size == 0:
            return jnp.ones(scale.shape, bool)
        size = jnp.abs(scale).astype(jnp.promote_types(scale.dtype, jnp.float32))
        rising = jnp.sort(size, axis=None)
        shares = jnp.cumsum(rising * rising)
        first = jnp.argmax(shares > energy * shares[-1])
        largest = jnp.arange(size.size).reshape(size.shape) == jnp.argmax(size)
        return jnp.where(rising[-1] < _DEAD, largest, size >= rising[first])

    chosen = filters.match("(^|/)scale$") if where is None else where
    return _tree.map_present(one, filters.only(params, chosen))


def _chosen(mask: Mask | Filter | None, params: Params) -> PyTree:
    """For each leaf what of it is penalised: an array or a bool that broadcasts, or None."""
    if mask is None:
        mask = filters.everything()
    if callable(mask):
        return _tree.map_present(lambda p: True, filters.only(params, mask))
    check_fits(params, mask)
    return mask


def _check_strength(strength: Any) -> None:
    check_number(strength=strength)
    if not isinstance(strength, jax.core.Tracer) and not strength >= 0:
        raise InputError(f"strength={strength} must not be negative.")
