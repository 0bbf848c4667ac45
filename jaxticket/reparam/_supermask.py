"""Supermasks: weights stay as they were drawn, and scores beside them learn which ones to use."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters, scopes, scores, units
from jaxticket._dtypes import wide_dtype
from jaxticket.reparam._base import Latent, Reparam, copy_params, density_at, only_real, silence, trains
from jaxticket.reparam._initialise import Draw, draw_leaves
from jaxticket.scopes import Scope
from jaxticket.transforms._start import best, full_mask
from jaxticket.typing import Density, Filter, Key, Mask, Params, Schedule
from jaxticket.units import Unit

# torch's default: uniform within ± 1 / √fan-in.
_KAIMING_UNIFORM = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

Value = Callable[[jax.Array, jax.Array], jax.Array]  # (weights, mask) -> the values of kept weights


def edge_popup(
    density: Density | Schedule,
    *,
    score_init: Draw = _KAIMING_UNIFORM,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Reparam:
    """Learn which untrained weights to use, by scores beside them (edge-popup; Ramanujan et al., 2020).

        p = w ⊙ m,   m = topₖ |s|,   ∇s = sign(s) ⊙ w ⊙ ∇p

    Scores are `Latent.learned`, and all of them get a gradient. `wrap(inner)` trains them alone: nothing moves the
    weights, not even weight decay. Biases and norms stay too. Draw the weights by `signed_constant` or
    `kaiming_normal`. The paper trains the scores by SGD, learning rate 0.1, momentum 0.9, with a cosine. `init` needs a
    key. (The authors truncate the number of pruned weights; this code rounds that of kept ones.)

    Args:
      density: the fraction kept, or a schedule of it; pytrees by leaf as in `select`.
      score_init: (key, shape, dtype) -> first scores.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Examples:
      >>> popup = edge_popup(0.5)
      >>> latent = Latent({"w": jnp.array([[2.0, 3.0]])}, {"w": jnp.array([[0.1, -0.4]])})
      >>> popup.realise(latent, count=0)["w"], jax.grad(lambda l: popup.realise(l, count=0)["w"].sum())(latent).learned
      (Array([[0., 3.]], dtype=float32), {'w': Array([[ 2., -3.]], dtype=float32)})
    """
    value = lambda w, mask: w
    return _supermask(density, value, score_init=score_init, unit=unit, scope=scope, where=where)


def biprop(
    density: Density | Schedule,
    *,
    score_init: Draw = _KAIMING_UNIFORM,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Reparam:
    """Learn a supermask whose kept weights have one magnitude a leaf (Biprop; Diffenderfer & Kailkhura, 2021).

        p = α · sign(w) ⊙ m,   α = mean of |w| where m

    A ticket is then one bit for each kept weight, and α. Scores get edge-popup's gradient, in which α is a constant.
    (The authors divide by ⌊kn⌋; this code divides by the number of kept weights.) Their global variant is
    `biprop(schedules.cubic(density, start=0, stop=…, initial=0.5), scope=scopes.tree())`.

    Args:
      density: the fraction kept, or a schedule of it; pytrees by leaf as in `select`.
      score_init: (key, shape, dtype) -> first scores.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Examples:
      >>> latent = Latent({"w": jnp.array([[2.0, -3.0, 4.0]])}, {"w": jnp.array([[0.1, -0.4, 0.3]])})
      >>> biprop(2 / 3).realise(latent, count=0)["w"]
      Array([[ 0. , -3.5,  3.5]], dtype=float32)
    """
    return _supermask(density, _binarise, score_init=score_init, unit=unit, scope=scope, where=where)


def _supermask(
    density: Density | Schedule, value: Value, *, score_init: Draw, unit: Unit, scope: Scope, where: Filter
) -> Reparam:
    """Return the method that realises weights as value(weights, mask) under the mask of the largest |scores|."""

    def init(params: Params, *, key: Key | None = None) -> Latent:
        learned = draw_leaves(only_real(params, where), key, score_init)
        return Latent(copy_params(params), learned)

    def mask(latent: Latent, *, count: Any) -> Mask:
        learned = jax.lax.stop_gradient(latent.learned)
        due = density_at(density, count)
        full = full_mask(latent.weights, where, unit)
        return best(scores.magnitude, learned, due, unit=unit, scope=scope, mask=full)

    def realise(latent: Latent, *, count: Any, key: Key | None = None) -> Params:
        del key

        def use(w: jax.Array, s: jax.Array | None, m: jax.Array | None) -> jax.Array:
            if s is None or m is None:
                return w
            w = jax.lax.stop_gradient(w)
            return jnp.where(m, value(w, m), 0) + w * silence(jnp.abs(s))

        return _tree.tree_map(use, latent.weights, latent.learned, mask(latent, count=count))

    return Reparam(init, realise, mask, trains("learned"))


def _binarise(w: jax.Array, mask: jax.Array) -> jax.Array:
    wide = wide_dtype(w.dtype)
    kept = jnp.sum(jnp.broadcast_to(mask, w.shape), dtype=wide)
    # A leaf of which a global scope keeps nothing has no mean.
    alpha = (jnp.sum(jnp.where(mask, jnp.abs(w), 0), dtype=wide) / jnp.maximum(kept, 1)).astype(w.dtype)
    return jnp.where(w < 0, -alpha, alpha)  # not sign(w), which is 0 at 0
