"""The training of latent parameters by the library, in the form of a trace."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxticket import reparam
from tests.reference.problem import MOMENTUM, RATE, STEPS, Problem
from tests.reference.stepping import record, to_jax

SGD = optax.sgd(RATE, momentum=MOMENTUM)
KEY = jax.random.key(0)


class Step(NamedTuple):
    """What the library used and reached at a step."""

    mask: dict
    realised: dict
    latent: Any
    state: Any

    @property
    def momentum(self) -> Any:
        return optax.tree_utils.tree_get(self.state, "trace")


def train(
    method: reparam.Reparam,
    tx: optax.GradientTransformation,
    latent: Any,
    problem: Problem,
    *,
    penalty: Callable = lambda latent, count: 0.0,
    weight: float = 1.0,
    count_of: Callable = lambda t: t,
    key_of: Callable = lambda t: None,
    before: Callable = lambda latent, t: latent,
    after: Callable = lambda latent, t: latent,
) -> list[Step]:
    """Train on the quadratic loss of the problem, with a penalty and changes before or after steps."""

    @jax.jit
    def update(latent, state, gradients, count, t):
        def loss(latent):
            used = method.realise(latent, count=count, key=key_of(t))
            terms = jax.tree.map(lambda p, g: jnp.vdot(p, g) + jnp.vdot(p, p) / 2, used, gradients)
            return weight * sum(terms.values()) + penalty(latent, count), used

        (_, used), grads = jax.value_and_grad(loss, has_aux=True)(latent)
        mask = method.mask(latent, count=count)
        updates, state = tx.update(grads, state, latent)
        return mask, used, optax.apply_updates(latent, updates), state

    state, steps = tx.init(latent), []
    for t in range(STEPS):
        latent = before(latent, t)
        *used, latent, state = update(latent, state, to_jax(problem.gradients[t]), jnp.int32(count_of(t)), jnp.int32(t))
        latent = after(latent, t)
        steps.append(Step(*used, latent, state))
    return steps


def train_weights(method: reparam.Reparam, problem: Problem) -> list[dict]:
    """Train a method whose latent parameters are weights alone."""
    steps = train(method, method.wrap(SGD), method.init(to_jax(problem.weights)), problem)
    return [record(s.mask, realised=s.realised, weights=s.latent, momentum=s.momentum) for s in steps]


def draw_from(values: dict) -> Callable:
    """Return the draw of these values, which are of different shapes."""
    by_shape = {v.shape: v for v in to_jax(values).values()}
    return lambda key, shape, dtype: by_shape[shape]


def train_scores(method: reparam.Reparam, problem: Problem, *, decay: float = 0.0, **changes) -> list[Step]:
    """Train a method that learns the scores of weights which stay."""
    tx = method.wrap(optax.chain(optax.add_decayed_weights(decay), SGD))
    return train(method, tx, method.init(to_jax(problem.weights), key=KEY), problem, **changes)


def record_scores(steps: list[Step], *, weights: bool = True) -> list[dict]:
    own = lambda s: {"weights": s.latent.weights} if weights else {}
    return [
        record(s.mask, realised=s.realised, **own(s), learned=s.latent.learned, momentum=s.momentum.learned)
        for s in steps
    ]


def record_both(steps: list[Step]) -> list[dict]:
    return [record(s.mask, realised=s.realised, weights=s.latent.weights, learned=s.latent.learned) for s in steps]


def by_group(weights: optax.GradientTransformation, learned: optax.GradientTransformation):
    groups = {"weights": weights, "learned": learned, "constants": optax.set_to_zero()}
    return optax.partition(groups, reparam.groups)
