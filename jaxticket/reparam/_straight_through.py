"""Sparse in the forward pass, dense in the backward pass: the mask follows the latent weights at every step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters, scopes, scores, units
from jaxticket._checks import check_number
from jaxticket.errors import InputError
from jaxticket.reparam._base import Reparam, copy_params, density_at, silence
from jaxticket.scopes import Scope
from jaxticket.transforms._start import best, full_mask
from jaxticket.typing import Density, Filter, Key, Mask, Params, Schedule, ScoreFn
from jaxticket.units import Unit


def straight_through(
    density: Density | Schedule,
    *,
    score: ScoreFn = scores.magnitude,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Reparam:
    """Use the best-scored weights only, and pass their gradients to all (STE; Bengio et al., 2013).

        p = θ ⊙ m(θ),   ∂p / ∂θ := 1

    The mask is chosen again whenever the parameters are realised, so that weights come and go. A weight that is left
    out keeps its value and its gradient. Weight decay acts on the latent weights.

    Args:
      density: the fraction kept, or a schedule of it; pytrees by leaf as in `select`.
      score: the importance of a weight, called with the latent parameters alone.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> ste = straight_through(0.5)
      >>> latent = ste.init({"w": jnp.array([[1.0, 3.0]])})
      >>> jax.grad(lambda latent: ste.realise(latent, count=0)["w"].sum() ** 2)(latent)
      {'w': Array([[6., 6.]], dtype=float32)}
    """
    return _mask_best(density, _pass, score=score, unit=unit, scope=scope, where=where)


def sr_ste(
    density: Density | Schedule,
    *,
    decay: float = 2e-4,
    unit: Unit = units.element(),
    scope: Scope = scopes.groups(4),
    where: Filter = filters.weights(),
) -> Reparam:
    """Pass gradients straight through and decay the weights left out, so that masks settle (Zhou et al., 2021).

        ∇θ = ∇p + λ (1 − m) ⊙ θ

    This is SR-STE, for N:M sparsity: `sr_ste(2 / 4)` keeps two of four consecutive inputs. The decay is part of the
    gradient that reaches the latent weights: do not scale the loss.

    Args:
      density: the fraction kept, or a schedule of it.
      decay: λ; 2e-4 for SGD, as the paper is recalled.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Raises:
      InputError: a negative decay.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> refined = sr_ste(0.5, decay=0.1, scope=scopes.leaf())
      >>> latent = refined.init({"w": jnp.array([[1.0, 3.0]])})
      >>> jax.grad(lambda latent: refined.realise(latent, count=0)["w"].sum())(latent)
      {'w': Array([[1.1, 1. ]], dtype=float32)}
    """
    check_number(decay=decay)
    if not decay >= 0:
        raise InputError(f"decay={decay} must not be negative; 2e-4 is usual.")
    use = functools.partial(_pass_and_decay, decay)
    return _mask_best(density, use, score=scores.magnitude, unit=unit, scope=scope, where=where)


def _mask_best(
    density: Density | Schedule, use: Any, *, score: ScoreFn, unit: Unit, scope: Scope, where: Filter
) -> Reparam:
    """Return the reparametrisation use(latent leaf, mask leaf) under the mask of the best-scored latent weights."""

    def init(params: Params, *, key: Key | None = None) -> Params:
        del key
        filters.only(params, where)  # raises if nothing matches
        return copy_params(params)

    def mask(latent: Params, *, count: Any) -> Mask:
        latent = jax.lax.stop_gradient(latent)
        due = density_at(density, count)
        return best(score, latent, due, unit=unit, scope=scope, mask=full_mask(latent, where, unit))

    def realise(latent: Params, *, count: Any, key: Key | None = None) -> Params:
        del key
        chosen = mask(latent, count=count)
        return _tree.tree_map(lambda p, m: p if m is None else use(p, m), latent, chosen)

    return Reparam(init, realise, mask)


def _pass(p: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask, p, silence(p))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pass_and_decay(decay: float, p: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask, p, 0)


def _forward(decay: float, p: jax.Array, mask: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return jnp.where(mask, p, 0), (p, mask)


def _backward(decay: float, kept: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, None]:
    p, mask = kept
    return jnp.where(mask, cotangent, cotangent + decay * p), None


_pass_and_decay.defvjp(_forward, _backward)
