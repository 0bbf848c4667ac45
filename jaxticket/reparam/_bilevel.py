"""BiP: pruning as the upper and retraining as the lower level of one optimisation."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree, filters, scopes, units
from jaxticket._checks import check_count, check_number
from jaxticket._dtypes import wide_dtype
from jaxticket.errors import InputError
from jaxticket.reparam._base import Latent, Reparam, copy_params, density_at, only_real
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
    steps: int | None = None,
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
      steps: the steps of the training, of both levels together, from which the default of `upper` derives its schedule;
        None for a constant learning rate.
      upper: the optimizer of the upper level. The default is that of the authors' code without its weight decay of
        1e-4: SGD with momentum 0.9 and a learning rate of 0.1, of which a tenth is left after half of the training, and
        a hundredth after three quarters.
      implicit_rate: η = 1 / γ, the learning rate that the implicit gradient assumes of the lower level; 0 leaves that
        term out.
      rule: "paper", with s ≥ 0; or "code", that of the authors' repository. There s and θ are one tensor, which both
        optimizers move: the mask keeps the largest |θ|, and upper steps follow q − η q², q = |θ| g, for all weights.
        Leaves without a mask train on both kinds of steps. Here `Latent.learned` is a second copy of θ. Each optimizer
        applies its weight decay once a step; in the repository it acts through both names of the tensor.
      unit: weights that live or die together.
      scope: units that compete with each other. The authors select channels (`units.axis(-1, reduce=units.l2)`) leaf by
        leaf.
      where: the leaves that are sparsified.

    Returns:
      The reparametrisation.

    Raises:
      InputError: another rule, a negative rate, or steps below 1.

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
        raise InputError(f"implicit_rate={implicit_rate} must not be negative; it is 1 / γ, 1e-4 in the authors' code.")
    if steps is not None:
        check_count(1, steps=steps)
    use = functools.partial(_product, functools.partial(_RULES[rule], rate=implicit_rate))
    signed = rule == "code"

    def init(params: Params, *, key: Key | None = None) -> Latent:
        del key
        first = lambda p: jnp.array(p if signed else jnp.abs(p), wide_dtype(p.dtype), copy=True)
        scores = _tree.map_present(first, only_real(params, where))
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
        chosen = _default_upper(steps) if upper is None else upper
        return _take_turns(inner, chosen, _CODE if signed else _PAPER)

    return Reparam(init, realise, mask, wrap)


def implicit_gradient(theta: jax.Array, scores: jax.Array, mask: jax.Array, g: jax.Array, *, rate: float) -> jax.Array:
    """Return dL/dm where the lower level answers dθ/dm = −rate · g: exact for losses that are linear in the weights."""
    del scores
    return (theta - rate * mask * g) * g


def squared_gradient(theta: jax.Array, scores: jax.Array, mask: jax.Array, g: jax.Array, *, rate: float) -> jax.Array:
    """Return the gradient of the authors' code: the product of two gradients also includes the scores' own."""
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


class _Levels(NamedTuple):
    """The parts of a latent that each level moves, and how the updates of both become those of the latent."""

    lower: Callable[[Latent], Latent]
    upper: Callable[[Latent], Latent]
    join: Callable[[Latent, Latent, Latent, jax.Array], Latent]  # (params, lower, upper updates, whether upper is due)


def _join_apart(params: Latent, lower: Latent, upper: Latent, upper_turn: jax.Array) -> Latent:
    """Weights and scores are apart; scores end at 0."""
    del upper_turn
    return Latent(lower.weights, jax.tree.map(_above_zero, params.learned, upper.learned))


def _join_tied(params: Latent, lower: Latent, upper: Latent, upper_turn: jax.Array) -> Latent:
    """Scores and weights are one tensor, of which the learned copy has all of its bits."""
    weights = jax.tree.map(lambda low, up: jnp.where(upper_turn, up, low), lower.weights, upper.weights)
    learned = _tree.map_present(lambda s, u: u.astype(s.dtype), params.learned, weights)
    return Latent(weights, learned)


def _scores_for_weights(latent: Latent) -> Latent:
    """Return all weights, where scores take the place of those that have a mask."""
    weights = _tree.tree_map(lambda p, s: p if s is None else s.astype(p.dtype), latent.weights, latent.learned)
    return Latent(weights, None)


# Both optimizers see a Latent, so that the paths in their states are those of the latent parameters (state_shardings).
_WEIGHTS = lambda latent: latent._replace(learned=None, constants=())
_PAPER = _Levels(_WEIGHTS, lambda latent: latent._replace(weights=None, constants=()), _join_apart)
_CODE = _Levels(_WEIGHTS, _scores_for_weights, _join_tied)


def _default_upper(steps: int | None) -> optax.GradientTransformation:
    if steps is None:
        return optax.sgd(0.1, momentum=0.9)
    own = int(steps) // 2
    falling = optax.piecewise_constant_schedule(0.1, {own // 2: 0.1, 3 * own // 4: 0.1})
    return optax.sgd(falling, momentum=0.9)


def _take_turns(
    inner: optax.GradientTransformation, upper: optax.GradientTransformation, levels: _Levels
) -> optax.GradientTransformationExtraArgs:
    """Use `inner` for the lower level on even steps, `upper` for the upper level on odd ones."""
    inner, upper = optax.with_extra_args_support(inner), optax.with_extra_args_support(upper)

    def init(latent: Latent) -> BilevelState:
        count = jnp.zeros((), jnp.int32)
        return BilevelState(count, inner.init(levels.lower(latent)), upper.init(levels.upper(latent)))

    def update(
        grads: Latent, state: BilevelState, params: Latent | None = None, **extra: Any
    ) -> tuple[Latent, BilevelState]:
        params = require_params(params, "bip")
        upper_turn = state.count % 2 == 1

        def step(tx: Any, rest: jax.Array, part: Callable[[Latent], Latent], state: PyTree) -> tuple[Latent, PyTree]:
            moved = tx.update(part(grads), state, part(params), **extra)
            held = jax.tree.map(jnp.zeros_like, moved[0]), state
            return jax.tree.map(lambda h, m: jnp.where(rest, h, m), held, moved)

        lower_updates, lower_state = step(inner, upper_turn, levels.lower, state.lower)
        upper_updates, upper_state = step(upper, ~upper_turn, levels.upper, state.upper)
        updates = levels.join(params, lower_updates, upper_updates, upper_turn)
        return updates, BilevelState(optax.safe_increment(state.count), lower_state, upper_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _above_zero(scores: jax.Array, updates: jax.Array) -> jax.Array:
    return jnp.where(scores + updates < 0, -scores, updates)
