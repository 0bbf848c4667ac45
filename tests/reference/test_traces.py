"""Hold the library against transcriptions of the published procedures: masks, weights, momentum, counts by step."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import reparam, schedules, scopes, scores, transforms, units
from tests.reference import write
from tests.reference.comparing import assert_follows
from tests.reference.problem import MOMENTUM, RATE, STEPS, Problem
from tests.reference.published import soft_prune

FILES, STEP_FILES = write.files(), write.files("steps")
STARTS_AT_RANDOM = {"sparse_evolutionary", "rigl", "itop", "snfs", "granet", "granet_uniform"}
INNER = optax.sgd(lambda count: RATE, momentum=MOMENTUM)  # its state counts, by which the given numbers are found


def to_jax(tree: dict) -> dict:
    return {name: jnp.asarray(leaf, bool if leaf.dtype == bool else jnp.float32) for name, leaf in tree.items()}


@pytest.fixture
def given_numbers(monkeypatch):
    """A score that takes the numbers of the problem in the place of random ones."""
    numbers = Problem(0.5).numbers
    table = {name: jnp.asarray(np.stack([n[name] for n in numbers]), jnp.float32) for name in numbers[0]}

    def given(params, *, aux, **signals):
        return {name: table[name][aux[1].count] for name in params}

    monkeypatch.setattr(scores, "random", given)
    return given


def train(method: str, settings: dict, given) -> list[dict]:
    """The steps of the library's own training."""
    problem = Problem(settings.get("initial", settings["density"]))
    extra = {"grow": given} if method == "itop" else {}
    extra |= {"scope": scopes.tree()} if settings.get("scope") == "tree" else {}
    plan = getattr(transforms, method)(**{**settings, **extra})
    mask = to_jax(problem.mask) if method in STARTS_AT_RANDOM else None
    tx = jt.sparsify(INNER, plan, mask=mask, key=jax.random.key(0))
    params, state = jt.init(tx, to_jax(problem.weights))
    update, steps = jax.jit(tx.update), []
    for gradients in problem.gradients:
        updates, state = update(to_jax(gradients), state, params)
        params = optax.apply_updates(params, updates)
        mask, inner = jt.mask_of(state), state.inner if plan.after is None else state.inner[0]
        assert int(inner[1].count) == len(steps) + 1
        momentum = {name: m * mask[name] for name, m in inner[0].trace.items()}
        living = {name: int(m.sum()) for name, m in mask.items()}
        steps.append({"mask": mask, "weights": params, "momentum": momentum, "living": living})
    return steps


def train_top_kast(settings: dict) -> list[dict]:
    kast = reparam.top_kast(**settings)
    tx, problem = kast.wrap(INNER), Problem(settings["density"])
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
        living = {name: int(m.sum()) for name, m in mask.items()}
        steps.append({"mask": mask, "weights": latent, "momentum": state[0].trace, "living": living})
    return steps


def train_soft(settings: dict) -> list[dict]:
    when = schedules.every(settings["every"])
    prune = transforms.soft_prune(settings["density"], when=when, unit=units.axis(-1, reduce=units.l2))
    tx, problem = optax.chain(INNER, prune), Problem(settings["density"])
    params, update, steps = to_jax(soft_prune.start(problem)), jax.jit(tx.update), []
    state = tx.init(params)
    for gradients in problem.gradients:
        updates, state = update(to_jax(gradients), state, params)
        params = optax.apply_updates(params, updates)
        steps.append({"weights": params, "momentum": state[0][0].trace})
    return steps


@pytest.mark.parametrize("path", STEP_FILES, ids=lambda p: p.stem)
def test_the_library_follows_the_published_procedure(path, given_numbers):
    trace = write.read(path)
    method, settings = trace["method"], trace["settings"]
    own = {"top_kast": train_top_kast, "soft_prune": train_soft}
    steps = own[method](settings) if method in own else train(method, settings, given_numbers)
    assert len(steps) == STEPS
    assert_follows(steps, trace["steps"])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_stored_trace_is_that_of_the_transcription(path):
    stored, made = write.read(path), write.make(path.stem)
    kind = write.kind_of(stored)
    assert {k: v for k, v in stored.items() if k != kind} == {k: v for k, v in made.items() if k != kind}
    for old, new in zip(stored[kind], made[kind], strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-9), old, new)


def test_every_transcription_has_a_trace_and_says_what_it_was_read_from():
    assert [p.stem for p in FILES] == write.transcriptions()
    for path in FILES:
        trace = write.read(path)
        assert trace["paper"]
        assert (trace["repository"] is None) <= (trace["commit"] is None)
        assert all(sentence.endswith(".") for sentence in trace["deviations"])


def test_the_table_of_methods_says_what_each_row_is_held_against():
    page = (write.HERE.parents[1] / "docs" / "methods.md").read_text()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in re.findall(r"^\|.*\|$", page, re.M)]
    assert rows[0][-1] == "held against"
    cells = [row[-1] for row in rows[2:]]
    named = {cell for cell in cells if cell not in ("paper", "spec only")}
    traces = [write.read(path) for path in FILES]
    assert named == {f"`{trace['repository']}@{trace['commit']}`" for trace in traces if trace["commit"]}
    assert all("`tests/reference`" in row[2] for row in rows[2:] if row[-1] in named)
