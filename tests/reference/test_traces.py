"""Hold the library's plans against transcriptions of the published procedures, and check what is stored of all."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import registry, scopes, scores, transforms, units
from jaxticket.scores import _pointwise
from tests.reference import write
from tests.reference.comparing import assert_follows
from tests.reference.problem import MOMENTUM, RATE, STEPS, Problem
from tests.reference.published import rigl_blocks
from tests.reference.stepping import record, to_jax

FILES, PLANS = write.files(), write.files("steps", "test_traces")
STARTS_AT_RANDOM = {"sparse_evolutionary", "rigl", "itop", "snfs", "granet", "granet_uniform"}
LEARNING_RATE = lambda count: RATE  # a state with a schedule counts, by which the given numbers are found
INNER = {"sgd": optax.sgd(LEARNING_RATE, momentum=MOMENTUM), "adam": optax.adam(LEARNING_RATE, b2=0.99)}
KEY = jax.random.key(0)


@pytest.fixture
def given_numbers(monkeypatch):
    """A score that takes the numbers of the problem in the place of random ones."""
    numbers = Problem(0.5).numbers
    table = {name: jnp.asarray(np.stack([n[name] for n in numbers]), jnp.float32) for name in numbers[0]}
    # Where a score sees a key alone, the step is that whose key it is, in the second link of a chain.
    of_step = lambda step: jax.random.key_data(jax.random.fold_in(jax.random.fold_in(KEY, step), 1))
    keys = jax.vmap(of_step)(jnp.arange(STEPS))

    def given(params, *, key, aux=None, **signals):
        step = jnp.argmax(jnp.all(keys == jax.random.key_data(key)[None], 1)) if aux is None else aux[1].count
        return {name: table[name][step] for name in params}

    monkeypatch.setattr(scores, "random", given)
    monkeypatch.setattr(_pointwise, "random", given)
    return given


def make_plan(method: str, *, block=None, grow=None, grow_divisor=None, given=None, **settings) -> transforms.Plan:
    """Return the library's plan for the settings of a trace."""
    if method == "itop":
        settings["grow"] = given if grow is None else scores.unfired
    if settings.get("scope") == "tree":
        settings["scope"] = scopes.tree()
    if block is not None:
        settings["unit"] = units.block(block, block)
    if grow_divisor is not None:
        settings["grow_init"] = lambda params, *, grads, key: jax.tree.map(lambda g: g / grow_divisor, grads)
    return getattr(transforms, method)(**settings)


def train(method: str, settings: dict, given) -> list[dict]:
    """Return the steps of the library's own training."""
    settings = dict(settings)
    optimizer = settings.pop("optimizer", "sgd")
    blocks = (rigl_blocks.SHAPES,) if "block" in settings else ()
    problem = Problem(settings.get("initial", settings["density"]), *blocks)
    plan = make_plan(method, **settings, given=given)
    first = rigl_blocks.first_mask(problem) if blocks else problem.mask
    mask = to_jax(first) if method in STARTS_AT_RANDOM else None
    tx = jt.sparsify(INNER[optimizer], plan, mask=mask, key=KEY)
    params, state = jt.init(tx, to_jax(problem.weights))
    update, steps = jax.jit(tx.update), []
    for gradients in problem.gradients:
        updates, state = update(to_jax(gradients), state, params)
        params = optax.apply_updates(params, updates)
        mask, inner = jt.mask_of(state), state.inner if plan.after is None else state.inner[0]
        assert int(inner[1].count) == len(steps) + 1
        moments = {"momentum": "trace"} if optimizer == "sgd" else {"momentum": "mu", "second": "nu"}
        alive = lambda tree: {name: m * mask[name] for name, m in tree.items()}
        moments = {what: alive(getattr(inner[0], field)) for what, field in moments.items()}
        steps.append(record(mask, weights=params, **moments))
    return steps


@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.stem)
def test_the_library_follows_the_published_procedure(path, given_numbers):
    trace = write.read(path)
    assert len(trace["steps"]) == STEPS
    assert_follows(train(trace["method"], trace["settings"], given_numbers), trace["steps"])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_stored_trace_is_that_of_the_transcription(path):
    stored, made = write.read(path), write.make(path.stem)
    kind = write.kind_of(stored)
    assert {k: v for k, v in stored.items() if k != kind} == {k: v for k, v in made.items() if k != kind}
    for old, new in zip(stored[kind], made[kind], strict=True):
        near = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-9)
        jax.tree.map(near, old, new, is_leaf=lambda x: isinstance(x, list))


def test_every_transcription_has_a_trace_and_says_what_it_was_read_from():
    assert [p.stem for p in FILES] == write.transcriptions()
    for path in FILES:
        trace = write.read(path)
        assert trace["paper"]
        assert (write.HERE / f"{trace.get('test', 'test_traces')}.py").exists()
        assert (trace["repository"] is None) <= (trace["commit"] is None)
        assert all(sentence.endswith(".") for sentence in trace["deviations"])


def test_every_method_of_the_registry_has_a_trace():
    assert registry.METHODS.keys() <= {path.stem for path in FILES}


def test_the_table_of_methods_says_what_each_row_is_held_against():
    page = (write.HERE.parents[1] / "docs" / "methods.md").read_text()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in re.findall(r"^\|.*\|$", page, re.M)]
    assert rows[0][-1] == "held against"
    cells = [row[-1] for row in rows[2:]]
    sources = [set() if cell in ("paper", "spec only") else set(cell.split(", ")) for cell in cells]
    traces = [write.read(path) for path in FILES]
    assert set().union(*sources) == {
        f"`{trace['repository']}@{trace['commit']}`" for trace in traces if trace["commit"]
    }
    assert all("`tests/reference`" in row[2] for row, named in zip(rows[2:], sources, strict=True) if named)
