"""BiP: pruning as the upper and retraining as the lower level of one optimisation."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree, filters, scopes, units
from jaxticket._checks import check_number
from jaxticket.errors import InputError
from jaxticket.reparam._base import Latent, Reparam, copy_params, density_at
from jaxticket.scopes import Scope
from jaxticket.selection import select
from jaxticket.transforms._constraints import require_params
from jaxticket.typing import Density, Filter, Key, Mask, Params, PyTree, Schedule
from jaxticket.units import Unit

Rule = Literal["paper", "code"]


class BilevelState(NamedTuple):
    """The state of `bip(...).wrap(inner)`."""

    count: jax.Array  # type: ignore[assignment]  # steps so far, int32 scalar
    lower: PyTree  # of the weights' optimizer
    upper: PyTree  # of the scores' optimizer


def bip(
    density: Density | Schedule,
    *,
    upper: optax.GradientTransformation | None = None,
    implicit_rate: float = 1e-4,
    rule: Rule = "paper",
    unit: Unit = units.element(),
    scope: Scope = scopes.tree(),
    where: Filter = filters.weights(),
) -> Reparam:
    """Retrain weights under a mask that descends the loss of the retrained network (BiP; Zhang et al., 2022).

        p = m ⊙ θ,   ∇θ = m ⊙ g,   ∇s = (θ − η m ⊙ g) ⊙ g,   g = ∂L / ∂p

    m keeps the largest |s|, where s starts at |θ|; give `init` pretrained weights. Steps take turns, so that each level
    has its own batch. The optimizer given to `wrap` moves the weights on steps 0, 2, …, and `upper` the scores on 1, 3,
    …. The other one rests: a `where` drops its update, at the cost of a copy of its moments (10 % of the step of a
    small network). The rules are not linear in g: do not scale the loss, or average gradients of examples. Below a
    density of 1 % a global mask may leave a layer empty.

    Args:
      density: the fraction kept, or a schedule of it.
      upper: the scores' optimizer, by default sgd(0.1), as published.
      implicit_rate: η = 1 / γ, the learning rate that the implicit gradient assumes of the lower level; 0 leaves that
        term out.
      rule: "paper", with s ≥ 0; or "code", the authors' code as we read it: s starts at θ, with its sign, and ∇s = q −
        η q², q = sign(s) θ g.
      unit: weights that live or die together.
      scope: units that compete with each other. The authors select channels (`units.axis(-1, reduce=units.l2)`) leaf by
        leaf.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Raises:
      InputError: another rule, or a negative rate.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> method = bip(0.5)
      >>> latent = method.init({"w": jnp.array([[1.0, -3.0]])})
      >>> grads = jax.grad(lambda latent: method.realise(latent, count=0)["w"].sum())(latent)
      >>> grads.weights["w"], grads.learned["w"]
      (Array([[0., 1.]], dtype=float32), Array([[ 1.    , -3.0001]], dtype=float32))
    """
    if rule not in _RULES:
        raise InputError(f"rule={rule!r} must be one of {[*_RULES]}.")
    check_number(implicit_rate=implicit_rate)
    if not implicit_rate >= 0:
        raise InputError(f"implicit_rate={implicit_rate} must not be negative; it is 1 / γ, 1e-4 is published.")
    use = functools.partial(_product, functools.partial(_RULES[rule], rate=implicit_rate))
    signed = rule == "code"

    def init(params: Params, *, key: Key | None = None) -> Latent:
        del key
        first = lambda p: jnp.array(p if signed else jnp.abs(p), jnp.promote_types(p.dtype, jnp.float32), copy=True)
        scores = _tree.map_present(first, filters.only(params, where))
        return Latent(copy_params(params), scores)

    def mask(latent: Latent, *, count: Any) -> Mask:
        due = density_at(density, count)
        scores = _tree.map_present(jnp.abs, jax.lax.stop_gradient(latent.learned))
        return select(scores, due, unit=unit, scope=scope)

    def realise(latent: Latent, *, count: Any, key: Key | None = None) -> Params:
        del key
        chosen = mask(latent, count=count)
        return _tree.tree_map(
            lambda p, s, m: p if s is None or m is None else use(p, s, m), latent.weights, latent.learned, chosen
        )

    def wrap(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
        return _take_turns(inner, optax.sgd(0.1) if upper is None else upper, land=None if signed else _above_zero)

    return Reparam(init, realise, mask, wrap)


def implicit_gradient(theta: jax.Array, scores: jax.Array, mask: jax.Array, g: jax.Array, *, rate: float) -> jax.Array:
    """Return dL/dm where the lower level answers dθ/dm = −rate · g: exact for losses that are linear in the weights."""
    del scores
    return (theta - rate * mask * g) * g


def squared_gradient(theta: jax.Array, scores: jax.Array, mask: jax.Array, g: jax.Array, *, rate: float) -> jax.Array:
    """Return the gradient of the authors' code: the product of two gradients also meets the scores' own gradient."""
    del mask
    q = jnp.sign(scores) * theta * g
    return q - rate * q * q


_RULES = {"paper": implicit_gradient, "code": squared_gradient}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(rule: Callable[..., jax.Array], theta: jax.Array, scores: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask, theta, 0)


def _forward(rule: Any, theta: jax.Array, scores: jax.Array, mask: jax.Array) -> Any:
    return jnp.where(mask, theta, 0), (theta, scores, mask)


def _backward(rule: Any, kept: tuple[jax.Array, jax.Array, jax.Array], g: jax.Array) -> Any:
    theta, scores, mask = kept
    wide = lambda x: x.astype(scores.dtype)
    return jnp.where(mask, g, 0), rule(wide(theta), scores, mask, wide(g)), None


_product.defvjp(_forward, _backward)


def _take_turns(
    inner: optax.GradientTransformation,
    upper: optax.GradientTransformation,
    *,
    land: Callable[[jax.Array, jax.Array], jax.Array] | None,
) -> optax.GradientTransformationExtraArgs:
    """Use `inner` for weights on even steps, `upper` for scores on odd ones; `land`: (scores, updates) -> updates."""
    inner, upper = optax.with_extra_args_support(inner), optax.with_extra_args_support(upper)
    # Both see a Latent, so that the paths in their states are those of the latent parameters (state_shardings).
    lower_part = lambda latent: latent._replace(learned=None, constants=())
    upper_part = lambda latent: latent._replace(weights=None, constants=())

    def init(latent: Latent) -> BilevelState:
        count = jnp.zeros((), jnp.int32)
        return BilevelState(count, inner.init(lower_part(latent)), upper.init(upper_part(latent)))

    def update(
        grads: Latent, state: BilevelState, params: Latent | None = None, **extra: Any
    ) -> tuple[Latent, BilevelState]:
        params = require_params(params, "bip")
        upper_turn = state.count % 2 == 1

        def step(tx: Any, rest: jax.Array, part: Callable[[Latent], Latent], state: PyTree) -> tuple[Latent, PyTree]:
            moved = tx.update(part(grads), state, part(params), **extra)
            held = jax.tree.map(jnp.zeros_like, moved[0]), state
            return jax.tree.map(lambda h, m: jnp.where(rest, h, m), held, moved)

        moved, lower_state = step(inner, upper_turn, lower_part, state.lower)
        scored, upper_state = step(upper, ~upper_turn, upper_part, state.upper)
        learned = scored.learned if land is None else jax.tree.map(land, params.learned, scored.learned)
        count = optax.safe_increment(state.count)
        return Latent(moved.weights, learned), BilevelState(count, lower_state, upper_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _above_zero(scores: jax.Array, updates: jax.Array) -> jax.Array:
    return jnp.where(scores + updates < 0, -scores, updates)
