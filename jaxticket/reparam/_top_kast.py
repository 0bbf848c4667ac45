"""Top-KAST: sparse in the forward pass, a little less sparse in the backward pass."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree, filters, scopes, scores, units
from jaxticket._batching import any_replicate
from jaxticket._checks import check_count, check_number, known
from jaxticket.errors import InputError
from jaxticket.reparam._base import Latent, Reparam, copy_params, silence
from jaxticket.scopes import Scope
from jaxticket.transforms._constraints import require_params
from jaxticket.transforms._start import best, full_mask
from jaxticket.transforms._surgery import choose_moments
from jaxticket.typing import Filter, Key, Mask, Params, PyTree
from jaxticket.units import Unit


class TopKastState(NamedTuple):
    """The state of `top_kast` whose sets stay for several updates."""

    count: jax.Array  # type: ignore[assignment]  # updates so far, int32 scalar
    inner: PyTree


def top_kast(
    density: float | jax.Array,
    *,
    backward: float | jax.Array,
    weight_decay: float = 0.0,
    every: int = 1,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Reparam:
    r"""Use the largest weights, and train them with the next largest ones (Top-KAST; Jayakumar et al., 2020).

        p = θ ⊙ A,   ∇θ = ∇p ⊙ B,   A ⊆ B

    A is the top `density` of the latent magnitudes, B the top `backward`. All others keep their value and their moments
    until they are among the largest again. Train with `reparam.wrap(inner)`, which holds them and adds the exploration
    decay: `weight_decay` · θ in A, and that over `density` in B \\ A.

    With `every` above 1 both sets are chosen at the start and after each `every` updates, and the latent parameters are
    a `Latent`: `weights`, and `constants` that hold the sets (2 in A, 1 in B \\ A, else 0; two bytes a weight).

    Args:
      density: the fraction of the weights that is used.
      backward: the fraction that is trained, density ≤ backward ≤ 1.
      weight_decay: the strength of the exploration regulariser, whose gradient it multiplies.
      every: updates between two choices of the sets; 1, or 100 as the paper also does.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Raises:
      InputError: fractions that are not in that order, a negative weight decay, or an `every` below 1.

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

    check_count(1, every=every)

    def init(params: Params, *, key: Key | None = None) -> Any:
        del key
        filters.only(params, where)  # raises if nothing matches
        weights = copy_params(params)
        return weights if every == 1 else Latent(weights, (), _encode(*choose(weights)))

    def largest(weights: Params, share: Any, among: Mask | None = None) -> Mask:
        weights = jax.lax.stop_gradient(weights)
        alive = full_mask(weights, where, unit) if among is None else among
        return best(scores.magnitude, weights, share, unit=unit, scope=scope, mask=alive)

    def choose(weights: Params) -> tuple[Mask, Mask]:
        trained = largest(weights, backward)
        return largest(weights, density, trained), trained

    def mask(latent: Any, *, count: Any) -> Mask:
        del count
        return largest(latent, density) if every == 1 else _decode(latent.constants)[0]

    def realise(latent: Any, *, count: Any, key: Key | None = None) -> Params:
        del count, key
        weights = latent if every == 1 else latent.weights
        used, trained = choose(latent) if every == 1 else _decode(latent.constants)
        return _tree.tree_map(lambda p, a, b: p if a is None else _use(p, a, b), weights, used, trained)

    def wrap(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
        inner = optax.with_extra_args_support(inner)

        def step(
            grads: Params, state: PyTree, weights: Params, used: Mask, trained: Mask, **extra: Any
        ) -> tuple[Params, PyTree]:
            if weight_decay:
                grads = _tree.tree_map(add_decay, used, trained, grads, weights)
            updates, stepped = inner.update(grads, state, weights, **extra)
            held = _tree.map_present(jnp.logical_not, trained)
            updates = _tree.tree_map(lambda h, u: u if h is None else jnp.where(h, 0, u), held, updates)
            return updates, choose_moments(inner, stepped, state, weights, held)

        def update(grads: Params, state: PyTree, params: Params | None = None, **extra: Any) -> tuple[Params, PyTree]:
            params = require_params(params, "top_kast")
            return step(grads, state, params, *choose(params), **extra)

        def init_counted(latent: Latent) -> TopKastState:
            return TopKastState(jnp.zeros((), jnp.int32), inner.init(latent.weights))

        def update_counted(
            grads: Latent, state: TopKastState, params: Latent | None = None, **extra: Any
        ) -> tuple[Latent, TopKastState]:
            latent = require_params(params, "top_kast")
            old = latent.constants
            updates, stepped = step(grads.weights, state.inner, latent.weights, *_decode(old), **extra)
            count = optax.safe_increment(state.count)
            due = count % every == 0

            def refresh() -> PyTree:
                new = _encode(*choose(optax.apply_updates(latent.weights, updates)))
                return jax.tree.map(lambda n, o: jnp.where(due, n, o), new, old)

            new = jax.lax.cond(any_replicate(due), refresh, lambda: old)
            # Small whole numbers: the sum of the old code and this difference is exact.
            return Latent(updates, (), jax.tree.map(jnp.subtract, new, old)), TopKastState(count, stepped)

        if every == 1:
            return optax.GradientTransformationExtraArgs(inner.init, update)
        return optax.GradientTransformationExtraArgs(init_counted, update_counted)

    def add_decay(a: jax.Array | None, b: jax.Array | None, g: jax.Array, p: jax.Array) -> jax.Array:
        if a is None or b is None:
            return g
        strength = jnp.where(a, weight_decay, weight_decay / density).astype(p.dtype)
        return jnp.where(b, g + strength * p, g)

    return Reparam(init, realise, mask, wrap)


def _use(p: jax.Array, used: jax.Array, trained: jax.Array) -> jax.Array:
    return jnp.where(used, p, jnp.where(trained, silence(p), 0))


def _encode(used: Mask, trained: Mask) -> PyTree:
    """Return both sets as one float leaf each, so that gradients can be taken and updates added."""
    return _tree.map_present(lambda a, b: a.astype(jnp.bfloat16) + b.astype(jnp.bfloat16), used, trained)


def _decode(codes: PyTree) -> tuple[Mask, Mask]:
    return _tree.map_present(lambda c: c > 1.5, codes), _tree.map_present(lambda c: c > 0.5, codes)
