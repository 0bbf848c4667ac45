"""Hold the transforms of gradients and updates, and AP, against transcriptions of the published procedures."""

import jax
import optax
import pytest

import jaxticket as jt
from jaxticket import filters, loops, masks, schedules, transforms, units
from jaxticket.methods.tickets.activate_while_pruning import activate_while_pruning
from tests.reference import write
from tests.reference.comparing import assert_follows
from tests.reference.problem import MOMENTUM, RATE, STEPS, Problem
from tests.reference.published import mask_sparsity, slimming
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


FOLLOW = {
    "soft_prune": soft_prune,
    "project_l0": project_l0,
    "add_l1": add_l1,
    "activate_while_pruning": prune_active,
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_library_follows_the_published_procedure(path):
    trace = write.read(path)
    assert_follows(FOLLOW[trace["method"]](trace["settings"]), trace["steps"])
