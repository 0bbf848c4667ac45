"""Top-KAST: sparse in the forward pass, a little less sparse in the backward pass."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree, filters, scopes, scores, units
from jaxticket._checks import check_number, known
from jaxticket.errors import InputError
from jaxticket.reparam._base import Reparam, copy_params, silence
from jaxticket.scopes import Scope
from jaxticket.transforms._constraints import require_params
from jaxticket.transforms._start import best, full_mask
from jaxticket.transforms._surgery import choose_moments
from jaxticket.typing import Filter, Key, Mask, Params, PyTree
from jaxticket.units import Unit


def top_kast(
    density: float | jax.Array,
    *,
    backward: float | jax.Array,
    weight_decay: float = 0.0,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Reparam:
    r"""Use the largest weights, and train them with the next largest ones (Top-KAST; Jayakumar et al., 2020).

        p = θ ⊙ A,   ∇θ = ∇p ⊙ B,   A ⊆ B

    A is the top `density` of the latent magnitudes, B the top `backward`. All others keep their value and their moments
    until they are among the largest again. Train with `reparam.wrap(inner)`, which holds them and adds the exploration
    decay: `weight_decay` · θ in A, and that over `density` in B \\ A.

    Args:
      density: the fraction of the weights that is used.
      backward: the fraction that is trained, density ≤ backward ≤ 1.
      weight_decay: the strength of the exploration regulariser, whose gradient it multiplies.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Raises:
      InputError: fractions that are not in that order, or a negative weight decay.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> kast = top_kast(0.25, backward=0.5)
      >>> latent = kast.init({"w": jnp.array([[3.0, -2.0, 1.0, 0.5]])})
      >>> kast.realise(latent, count=0)["w"], jax.grad(lambda p: kast.realise(p, count=0)["w"].sum())(latent)["w"]
      (Array([[3., 0., 0., 0.]], dtype=float32), Array([[1., 1., 0., 0.]], dtype=float32))
    """
    check_number(density=density, backward=backward, weight_decay=weight_decay)
    certain = not any(isinstance(d, jax.core.Tracer) for d in (density, backward))
    if certain and not 0 < known(density) <= known(backward) <= 1:
        raise InputError(f"density={density} and backward={backward} must satisfy 0 < density ≤ backward ≤ 1.")
    if not weight_decay >= 0:
        raise InputError(f"weight_decay={weight_decay} must not be negative.")

    def init(params: Params, *, key: Key | None = None) -> Params:
        del key
        filters.only(params, where)  # raises if nothing matches
        return copy_params(params)

    def largest(latent: Params, share: Any, among: Mask | None = None) -> Mask:
        latent = jax.lax.stop_gradient(latent)
        alive = full_mask(latent, where, unit) if among is None else among
        return best(scores.magnitude, latent, share, unit=unit, scope=scope, mask=alive)

    def mask(latent: Params, *, count: Any) -> Mask:
        del count
        return largest(latent, density)

    def realise(latent: Params, *, count: Any, key: Key | None = None) -> Params:
        del count, key
        trained = largest(latent, backward)
        used = largest(latent, density, trained)
        return _tree.tree_map(lambda p, a, b: p if a is None else _use(p, a, b), latent, used, trained)

    def wrap(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
        inner = optax.with_extra_args_support(inner)

        def update(grads: Params, state: PyTree, params: Params | None = None, **extra: Any) -> tuple[Params, PyTree]:
            params = require_params(params, "top_kast")
            trained = largest(params, backward)
            if weight_decay:
                used = largest(params, density, trained)
                grads = _tree.tree_map(add_decay, used, trained, grads, params)
            updates, stepped = inner.update(grads, state, params, **extra)
            held = _tree.map_present(jnp.logical_not, trained)
            updates = _tree.tree_map(lambda h, u: u if h is None else jnp.where(h, 0, u), held, updates)
            return updates, choose_moments(inner, stepped, state, params, held)

        return optax.GradientTransformationExtraArgs(inner.init, update)

    def add_decay(a: jax.Array | None, b: jax.Array | None, g: jax.Array, p: jax.Array) -> jax.Array:
        if a is None or b is None:
            return g
        strength = jnp.where(a, weight_decay, weight_decay / density).astype(p.dtype)
        return jnp.where(b, g + strength * p, g)

    return Reparam(init, realise, mask, wrap)


def _use(p: jax.Array, used: jax.Array, trained: jax.Array) -> jax.Array:
    return jnp.where(used, p, jnp.where(trained, silence(p), 0))
