"""Hold the transforms of gradients and updates, AP and SLaK against transcriptions of the published procedures."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import filters, loops, masks, schedules, scores, transforms, units
from jaxticket.methods.channels.slak import average, ratios, slak
from jaxticket.methods.tickets.activate_while_pruning import activate_while_pruning
from tests.reference import write
from tests.reference.comparing import assert_follows
from tests.reference.problem import MOMENTUM, RATE, STEPS, Problem
from tests.reference.published import mask_sparsity, slak_adamw, slimming
from tests.reference.published import slak as kernels
from tests.reference.stepping import record, to_jax

FILES = write.files(test="test_transform_traces")
SGD = optax.sgd(RATE, momentum=MOMENTUM)


@pytest.fixture(scope="module", autouse=True)
def quick_to_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def train(tx: optax.GradientTransformation, params: dict, problem: Problem, steps=range(STEPS)):
    """Return the parameters and the state after each of the steps, on the quadratic loss of the problem."""
    state, reached = tx.init(params), []

    @jax.jit
    def update(params, state, gradients):
        updates, state = tx.update(jax.tree.map(lambda g, p: g + p, gradients, params), state, params)
        return optax.apply_updates(params, updates), state

    for t in steps:
        params, state = update(params, state, to_jax(problem.gradients[t]))
        reached.append((params, state))
    return reached


def record_nonzero(reached):
    mask_of = lambda params: {name: p != 0 for name, p in params.items()}
    return [record(mask_of(p), weights=p, momentum=optax.tree_utils.tree_get(s, "trace")) for p, s in reached]


def soft_prune(settings):
    problem, due = Problem(0.5), schedules.every(settings["epoch"], start=settings["epoch"])
    unit = units.axis(-1, reduce=units.l2)
    tx = optax.chain(SGD, transforms.soft_prune(settings["density"], when=due, unit=unit))
    return record_nonzero(train(tx, to_jax(problem.weights), problem))


def project_l0(settings):
    problem = Problem(0.5)
    tx = optax.chain(SGD, transforms.project_l0(settings["density"], scope=jt.scopes.leaf()))
    return record_nonzero(train(tx, to_jax(problem.weights), problem))


def add_l1(settings):
    sparsity = "energy" in settings
    problem = Problem(0.5, (mask_sparsity if sparsity else slimming).SHAPES)
    params, scales = to_jax(problem.weights), filters.match("scale$")
    full = {name: p == p for name, p in params.items()}
    if sparsity:
        kept = transforms.scales_to_keep(params, energy=settings["energy"])
        shown = {name: full[name] if m is None else m for name, m in kept.items()}
        penalise = transforms.add_l1(settings["strength"], masks.complement(kept))
    else:
        shown = {name: m if name.endswith("scale") else ~m for name, m in full.items()}
        penalise = transforms.add_l1(settings["strength"], scales)
    tx = optax.chain(penalise, optax.add_decayed_weights(settings["decay"]), SGD)
    reached = train(tx, params, problem)
    return [record(shown, weights=p, momentum=optax.tree_utils.tree_get(s, "trace")) for p, s in reached]


def prune_active(settings):
    problem, levels = Problem(1.0), settings["densities"]
    mask, records, length = to_jax(problem.mask), [], STEPS // len(settings["densities"])
    for level, density in enumerate(levels):
        tx = jt.sparsify(SGD, jt.static(), mask=mask)
        start, _ = jt.init(tx, to_jax(problem.weights))
        trained = train(tx, start, problem, range(level * length, (level + 1) * length))[-1][0]
        prune = activate_while_pruning(loops.prune_by(), start, share=settings["share"])
        mask = prune(trained, mask, density, key=jax.random.key(level))
        records.append(record(mask, weights=trained))
    return records


def train_slak(settings):
    problem, rate = Problem(1.0, kernels.SHAPES), lambda count: RATE  # a schedule counts the steps
    params, batch = to_jax(kernels.first_weights(problem)), to_jax(problem.gradients[0])
    adam = optax.adamw(rate, b2=slak_adamw.B2, weight_decay=slak_adamw.DECAY)
    inner, moments = {
        "sgd": (optax.sgd(rate, MOMENTUM), {"momentum": "trace"}),
        "adamw": (adam, {"momentum": "mu", "second": "nu"}),
    }[settings["optimizer"]]
    loss = lambda p, batch: sum(jnp.vdot(w, batch[name]) + jnp.vdot(w, w) / 2 for name, w in p.items())
    densities = ratios(params, scores.snip(loss, [batch])(params), settings["density"])
    assert densities["head/kernel"] == 1
    table = jax.tree.map(lambda *steps: jnp.asarray(np.stack(steps), jnp.float32), *problem.numbers)

    def given(params, *, aux=None, **signals):
        step = 0 if aux is None else optax.tree_utils.tree_get_all_with_path(aux, "count")[0][1]
        return {name: table[name][step] for name in params}

    with mock.patch.object(scores, "random", given):
        plan = slak(densities, steps=STEPS, every=settings["every"], drop_fraction=settings["prune_rate"])
        tx = jt.sparsify(inner, plan, key=jax.random.key(0))
        reached = train(tx, jt.init(tx, params)[0], problem)
    mean, records = params, []
    for weights, state in reached:
        mask = jt.mask_of(state)
        mean = average(mean, weights, mask, decay=settings["decay"])
        alive = lambda tree, mask=mask: jt.apply_mask(tree, mask)  # a newborn weight has no moments of before
        own = {what: alive(optax.tree_utils.tree_get(state, field)) for what, field in moments.items()}
        sparse = {name: m for name, m in mask.items() if name in ("large/kernel", "linear/kernel")}
        records.append(record(sparse, weights=weights, average=mean, **own))
    return records


FOLLOW = {
    "slak": train_slak,
    "soft_prune": soft_prune,
    "project_l0": project_l0,
    "add_l1": add_l1,
    "activate_while_pruning": prune_active,
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_library_follows_the_published_procedure(path):
    trace = write.read(path)
    assert_follows(FOLLOW[trace["method"]](trace["settings"]), trace["steps"])
