"""Hold the reparametrisations against transcriptions of the published procedures, step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import reparam, schedules, scopes, scores, units
from tests.reference import write
from tests.reference.comparing import assert_follows
from tests.reference.latents import (
    KEY,
    SGD,
    Step,
    by_group,
    draw_from,
    record_both,
    record_scores,
    train,
    train_scores,
    train_weights,
)
from tests.reference.problem import MOMENTUM, RATE, STEPS, Problem
from tests.reference.published import dsee, edge_popup, iterand, monarch, recycle, sr_ste
from tests.reference.stepping import record, to_jax

FILES = write.files(test="test_reparam_traces")


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def train_straight_through(settings, _):
    return train_weights(reparam.straight_through(**settings), Problem(0.5))


def train_sr_ste(settings, _):
    return train_weights(reparam.sr_ste(**settings), Problem(0.5, sr_ste.SHAPES))


def train_pdp(settings, _):
    return train_weights(reparam.pdp(**settings, scope=scopes.leaf()), Problem(0.5))


def train_top_kast(settings, _):
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


def make_popup(density):
    return reparam.edge_popup(density, score_init=draw_from(edge_popup.first_scores(Problem(0.5))))


def learn_popup(settings, _):
    steps = train_scores(make_popup(settings["density"]), Problem(0.5), decay=settings["weight_decay"])
    return record_scores(steps, weights=False)


def learn_biprop(settings, _):
    density, options = settings["density"], {}
    if "ramp" in settings:
        density = schedules.cubic(density, start=0, stop=settings["ramp"], initial=0.5)
        options = {"scope": scopes.tree()}
    method = reparam.biprop(density, score_init=draw_from(edge_popup.first_scores(Problem(0.5))), **options)
    return record_scores(train_scores(method, Problem(0.5), decay=settings["weight_decay"]), weights=False)


def learn_signs(settings, _):
    problem = Problem(0.5)
    draw = draw_from(edge_popup.first_scores(problem))
    method = reparam.signed_supermask(settings["threshold"], mask_init=draw)
    fall = lambda first: optax.exponential_decay(first, settings["half_life"], 0.5)
    tx = reparam.sgdw(fall(settings["learning_rate"]), weight_decay=fall(settings["weight_decay"]), momentum=MOMENTUM)
    steps = train(method, method.wrap(tx), method.init(to_jax(problem.weights), key=KEY), problem)
    return record_scores(steps, weights=False)


def learn_with_recycling(settings, _):
    method, epoch = make_popup(settings["density"]), settings["epoch"]

    def after(latent, t):
        passed, rest = divmod(t + 1, epoch)
        if rest or not recycle.is_due(passed - 1, settings["every"], STEPS // epoch):
            return latent
        return reparam.recycle(latent, settings["fraction"], mask=method.mask(latent, count=t + 1))

    return record_scores(train_scores(method, Problem(0.5), after=after))


def learn_with_redraws(settings, monkeypatch):
    problem = Problem(0.5)
    method = reparam.edge_popup(settings["density"], score_init=draw_from(iterand.positive_scores(problem)))

    def before(latent, t):
        if (t + 1) % settings["every"]:
            return latent
        coins = draw_from(problem.numbers[t])
        monkeypatch.setattr(jax.random, "uniform", lambda key, shape: coins(key, shape, None))
        fresh = to_jax(iterand.redraw(problem, t))
        mask, redraw = method.mask(latent, count=t), lambda params, *, key: fresh
        return reparam.rerandomise(latent, key=KEY, mask=mask, fraction=settings["fraction"], redraw=redraw)

    return record_scores(train_scores(method, problem, before=before))


def learn_bilevel(settings, _):
    method, problem = reparam.bip(**settings, upper=SGD), Problem(0.5)
    return record_both(train(method, method.wrap(SGD), method.init(to_jax(problem.weights)), problem))


def correct(settings, _):
    """The mask is that of the places of the sparse correction."""
    density, places, rank = settings["density"], settings["places"], settings["rank"]
    problem = Problem(density, dsee.SHAPES)
    method = reparam.additive(
        to_jax(problem.mask),
        rank=rank,
        residual_density=settings["residual_density"],
        places=jax.jit(reparam.low_rank_residual(**places)),
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

    def record_parts(s: Step) -> dict:
        parts = {f: {name: getattr(c, f) for name, c in s.latent.learned.items()} for f in ("left", "right", "values")}
        sparse = {name: scatter(name, v) for name, v in parts.pop("values").items()}
        return record(spots, realised=s.realised, **parts, sparse=sparse)

    return [record_parts(s) for s in train(method, method.wrap(SGD), latent, problem, weight=1e-3)]


def train_factors(settings, _):
    """Signs of singular vectors do not matter: the realised kernels are compared. Ranks are the library's own."""
    method, problem = reparam.monarch(blocks=settings["blocks"]), Problem(0.5, monarch.SHAPES)
    steps = train(method, method.wrap(SGD), method.init(to_jax(problem.weights)), problem, weight=0.1)
    return [record(s.mask, realised=s.realised) for s in steps]


def learn_thresholds(settings, _):
    method, problem, decay = reparam.soft_threshold(initial=settings["initial"]), Problem(0.5), settings["decay"]
    tx = by_group(optax.chain(optax.add_decayed_weights(decay), SGD), SGD)
    penalty = lambda latent, count: decay * reparam.threshold_decay(latent)
    return record_both(train(method, method.wrap(tx), method.init(to_jax(problem.weights)), problem, penalty=penalty))


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
    return record_both(steps)


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
    return record_both([s._replace(mask=shape(s.mask)) for s in steps])


FOLLOW = {
    "straight_through": train_straight_through,
    "sr_ste": train_sr_ste,
    "pdp": train_pdp,
    "top_kast": train_top_kast,
    "edge_popup": learn_popup,
    "biprop": learn_biprop,
    "signed_supermask": learn_signs,
    "recycle": learn_with_recycling,
    "iterand": learn_with_redraws,
    "bip": learn_bilevel,
    "additive": correct,
    "monarch": train_factors,
    "soft_threshold": learn_thresholds,
    "continuous_sparsification": learn_continuous,
    "hard_concrete": learn_gates,
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_library_follows_the_published_procedure(path, monkeypatch):
    trace = write.read(path)
    assert_follows(FOLLOW[trace["method"]](trace["settings"], monkeypatch), trace["steps"])
