"""Hold the reparametrisations against transcriptions of the published procedures, step by step."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import reparam, schedules, scopes, scores, units
from tests.reference import write
from tests.reference.compare import compare, record, to_jax
from tests.reference.problem import MOMENTUM, RATE, STEPS, Problem
from tests.reference.published import dsee, edge_popup, iterand, recycle, sr_ste

FILES = write.traces("test_reparam_traces")
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


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


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
            each = jax.tree.map(lambda p, g: jnp.vdot(p, g) + jnp.vdot(p, p) / 2, used, gradients)
            return weight * sum(each.values()) + penalty(latent, count), used

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


def given(values: dict) -> Callable:
    """Return the draw of these values, which are of different shapes."""
    by_shape = {v.shape: v for v in to_jax(values).values()}
    return lambda key, shape, dtype: by_shape[shape]


def train_scores(method: reparam.Reparam, problem: Problem, *, decay: float = 0.0, **changes) -> list[Step]:
    """Train a method that learns the scores of weights which stay."""
    tx = method.wrap(optax.chain(optax.add_decayed_weights(decay), SGD))
    return train(method, tx, method.init(to_jax(problem.weights), key=KEY), problem, **changes)


def of_scores(steps: list[Step], *, weights: bool = True) -> list[dict]:
    own = lambda s: {"weights": s.latent.weights} if weights else {}
    return [
        record(s.mask, realised=s.realised, **own(s), learned=s.latent.learned, momentum=s.momentum.learned)
        for s in steps
    ]


def of_both(steps: list[Step]) -> list[dict]:
    return [record(s.mask, realised=s.realised, weights=s.latent.weights, learned=s.latent.learned) for s in steps]


def straight_through(settings, _):
    return train_weights(reparam.straight_through(**settings), Problem(0.5))


def sparse_refined(settings, _):
    return train_weights(reparam.sr_ste(**settings), Problem(0.5, sr_ste.SHAPES))


def pdp(settings, _):
    return train_weights(reparam.pdp(**settings, scope=scopes.leaf()), Problem(0.5))


def top_kast(settings, _):
    """Its gradients are given, and do not depend on the weights."""
    kast = reparam.top_kast(**settings)
    tx, problem = kast.wrap(SGD), Problem(settings["density"])
    latent = kast.init(to_jax(problem.weights))
    state, steps = tx.init(latent), []

    @jax.jit
    def update(latent, state, gradients):
        _, pull = jax.vjp(lambda p: kast.realise(p, count=0), latent)
        updates, state = tx.update(pull(gradients)[0], state, latent)
        return optax.apply_updates(latent, updates), state

    for gradients in problem.gradients:
        mask = kast.mask(latent, count=0)
        latent, state = update(latent, state, to_jax(gradients))
        weights = latent if "every" not in settings else latent.weights
        steps.append(record(mask, weights=weights, momentum=optax.tree_utils.tree_get(state, "trace")))
    return steps


def popup(density):
    return reparam.edge_popup(density, score_init=given(edge_popup.first_scores(Problem(0.5))))


def learn_popup(settings, _):
    steps = train_scores(popup(settings["density"]), Problem(0.5), decay=settings["weight_decay"])
    return of_scores(steps, weights=False)


def learn_biprop(settings, _):
    density, options = settings["density"], {}
    if "ramp" in settings:
        density = schedules.cubic(density, start=0, stop=settings["ramp"], initial=0.5)
        options = {"scope": scopes.tree()}
    method = reparam.biprop(density, score_init=given(edge_popup.first_scores(Problem(0.5))), **options)
    return of_scores(train_scores(method, Problem(0.5), decay=settings["weight_decay"]), weights=False)


def learn_signs(settings, _):
    problem = Problem(0.5)
    draw = given(edge_popup.first_scores(problem))
    method = reparam.signed_supermask(settings["threshold"], mask_init=draw)
    fall = lambda first: optax.exponential_decay(first, settings["half_life"], 0.5)
    tx = reparam.sgdw(fall(settings["learning_rate"]), weight_decay=fall(settings["weight_decay"]), momentum=MOMENTUM)
    steps = train(method, method.wrap(tx), method.init(to_jax(problem.weights), key=KEY), problem)
    return of_scores(steps, weights=False)


def learn_recycled(settings, _):
    method, epoch = popup(settings["density"]), settings["epoch"]

    def after(latent, t):
        passed, rest = divmod(t + 1, epoch)
        if rest or not recycle.due(passed - 1, settings["every"], STEPS // epoch):
            return latent
        return reparam.recycle(latent, settings["fraction"], mask=method.mask(latent, count=t + 1))

    return of_scores(train_scores(method, Problem(0.5), after=after))


def learn_redrawn(settings, monkeypatch):
    problem = Problem(0.5)
    method = reparam.edge_popup(settings["density"], score_init=given(iterand.positive_scores(problem)))

    def before(latent, t):
        if (t + 1) % settings["every"]:
            return latent
        coins = given(problem.numbers[t])
        monkeypatch.setattr(jax.random, "uniform", lambda key, shape: coins(key, shape, None))
        fresh = to_jax(iterand.fresh(problem, t))
        mask, redraw = method.mask(latent, count=t), lambda params, *, key: fresh
        return reparam.rerandomise(latent, key=KEY, mask=mask, fraction=settings["fraction"], redraw=redraw)

    return of_scores(train_scores(method, problem, before=before))


def learn_bilevel(settings, _):
    method, problem = reparam.bip(**settings, upper=SGD), Problem(0.5)
    return of_both(train(method, method.wrap(SGD), method.init(to_jax(problem.weights)), problem))


def correct(settings, _):
    """The mask is that of the places of the sparse correction."""
    density, places, rank = settings["density"], settings["places"], settings["rank"]
    problem = Problem(density, dsee.SHAPES)
    method = reparam.additive(
        to_jax(problem.mask),
        rank=rank,
        residual_density=settings["residual_density"],
        places=reparam.low_rank_residual(**places),
    )
    latent = method.init(to_jax(problem.weights), key=KEY)
    for name, correction in latent.learned.items():
        first = jnp.asarray(dsee.first_factor(problem, name, rank), jnp.float32)
        latent.learned[name] = correction._replace(left=first)

    def scatter(name, values):
        array = np.zeros(problem.weights[name].shape, np.asarray(values).dtype)
        array[tuple(np.asarray(latent.constants[name], int).T)] = values
        return array

    spots = {name: scatter(name, np.ones(len(at), bool)) for name, at in latent.constants.items()}

    def one(s: Step) -> dict:
        parts = {f: {name: getattr(c, f) for name, c in s.latent.learned.items()} for f in ("left", "right", "values")}
        sparse = {name: scatter(name, v) for name, v in parts.pop("values").items()}
        return record(spots, realised=s.realised, **parts, sparse=sparse)

    return [one(s) for s in train(method, method.wrap(SGD), latent, problem, weight=1e-3)]


def learn_thresholds(settings, _):
    method, problem, decay = reparam.soft_threshold(initial=settings["initial"]), Problem(0.5), settings["decay"]
    tx = by_group(optax.chain(optax.add_decayed_weights(decay), SGD), SGD)
    penalty = lambda latent, count: decay * reparam.threshold_decay(latent)
    return of_both(train(method, method.wrap(tx), method.init(to_jax(problem.weights)), problem, penalty=penalty))


def learn_continuous(settings, _):
    stop, temperature, initial = (settings[s] for s in ("stop", "temperature", "initial"))
    method = reparam.continuous_sparsification(stop=stop, temperature=temperature, initial=initial)
    measure = functools.partial(reparam.continuous_penalty, stop=stop, temperature=temperature)
    sgd = optax.sgd(RATE, momentum=MOMENTUM, nesterov=True)
    problem = Problem(0.5)

    def before(latent, t):
        ends = t > 0 and t % stop == 0
        return reparam.next_round(latent, initial=initial, temperature=settings["cut_at"]) if ends else latent

    steps = train(
        method,
        by_group(optax.chain(optax.add_decayed_weights(settings["decay"]), sgd), sgd),
        method.init(to_jax(problem.weights)),
        problem,
        penalty=lambda latent, count: settings["strength"] * measure(latent, count=count),
        count_of=lambda t: t % stop,
        before=before,
    )
    return of_both(steps)


def learn_gates(settings, monkeypatch):
    """The keys are the numbers of the steps, by which the given numbers are found."""
    problem = Problem(0.5)
    table = {name: jnp.asarray(np.stack([n[name] for n in problem.numbers]), jnp.float32) for name in problem.weights}
    monkeypatch.setattr(scores, "random", lambda tree, *, key: {name: table[name][key][:, :1] for name in tree})
    inputs = units.axis(0)
    method = reparam.hard_concrete(stop=settings["stop"], drop_rate=settings["drop_rate"], unit=inputs)

    def penalty(latent, count):
        open_gates, weights = reparam.expected_l0(latent, unit=inputs), reparam.expected_l2(latent, unit=inputs)
        return settings["closing"] * open_gates + settings["decay"] * weights

    steps = train(
        method, method.wrap(SGD), method.init(to_jax(problem.weights)), problem, penalty=penalty, key_of=lambda t: t
    )
    shape = lambda mask: {name: jnp.broadcast_to(m, problem.weights[name].shape) for name, m in mask.items()}
    return of_both([s._replace(mask=shape(s.mask)) for s in steps])


def by_group(weights: optax.GradientTransformation, learned: optax.GradientTransformation):
    groups = {"weights": weights, "learned": learned, "constants": optax.set_to_zero()}
    return optax.partition(groups, reparam.groups)


FOLLOW = {
    "straight_through": straight_through,
    "sr_ste": sparse_refined,
    "pdp": pdp,
    "top_kast": top_kast,
    "edge_popup": learn_popup,
    "biprop": learn_biprop,
    "signed_supermask": learn_signs,
    "recycle": learn_recycled,
    "iterand": learn_redrawn,
    "bip": learn_bilevel,
    "additive": correct,
    "soft_threshold": learn_thresholds,
    "continuous_sparsification": learn_continuous,
    "hard_concrete": learn_gates,
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_library_follows_the_published_procedure(path, monkeypatch):
    trace = write.read(path)
    compare(FOLLOW[trace["method"]](trace["settings"], monkeypatch), trace["steps"])
