"""Schedules that resume at a step under fresh moments: for any optimizer, in a loop of one's own, after a rewind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import filters, loops, schedules, training
from jaxticket.errors import InputError, StructureError
from jaxticket.transforms import resume_schedules
from jaxticket.typing import Trained
from tests.tiers import sample
from tests.transforms.test_restart import OPTIMIZERS, PARAMS, RATE, SWITCH

OF_SCHEDULES = [name for name in OPTIMIZERS if name != "adam"]  # whose rate is a constant


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", sample(OF_SCHEDULES, ["adamw", "chain", "multi_transform", "inject_hyperparams"]))
def test_counts_of_schedules_resume_and_those_of_moments_do_not(name):
    tx, fresh_at = OPTIMIZERS[name]
    fresh = tx.init(PARAMS)
    assert_same(resume_schedules(tx, fresh, PARAMS, step=SWITCH), fresh_at(fresh))


@pytest.mark.parametrize("name", sample(OF_SCHEDULES, ["adamw", "masked"]))
def test_a_plan_resumes_with_the_schedules_inside(name):
    inner, fresh_at = OPTIMIZERS[name]
    tx = jt.sparsify(inner, jt.rigl(0.5, steps=1000), key=jax.random.key(0))
    fresh = tx.init(PARAMS)
    resumed = resume_schedules(tx, fresh, PARAMS, step=SWITCH)
    assert int(resumed.steps) == SWITCH
    assert_same(resumed.inner, fresh_at(fresh.inner))
    assert_same(resumed.mask, fresh.mask)


def test_noise_that_anneals_and_steps_that_are_counted_resume_too():
    tx = optax.chain(
        optax.add_noise(0.1, 0.55, jax.random.key(0)),
        optax.transforms.conditionally_transform(optax.clip(1.0), lambda step: step > 10),
        optax.sgd(1.0),
    )
    noise, conditional, _ = resume_schedules(tx, tx.init(PARAMS), PARAMS, step=7)
    assert int(noise.count) == int(conditional.step) == 7


def test_counters_that_are_no_schedule_stay():
    tx = optax.chain(optax.contrib.reduce_on_plateau(), optax.MultiSteps(optax.adam(RATE), 2).gradient_transformation())
    fresh = tx.init(PARAMS)
    plateau, several = resume_schedules(tx, fresh, PARAMS, step=7)
    assert_same(plateau, fresh[0])
    assert int(several.mini_step) == int(several.gradient_step) == int(several.inner_opt_state[0].count) == 0
    assert int(several.inner_opt_state[1].count) == 7


def test_a_single_array_and_a_step_that_is_traced():
    tx, params, traces = optax.adam(RATE), jnp.ones(3), []

    @jax.jit
    def first_update(step):
        traces.append(step)
        state = resume_schedules(tx, tx.init(params), params, step=step)
        return tx.update(jnp.ones(3), state, params)[0]

    for step in (0, 100, 500):
        np.testing.assert_allclose(first_update(step), -RATE(step), rtol=1e-5)
    assert len(traces) == 1


@pytest.mark.parametrize("tx", [optax.adam(1e-3), optax.contrib.prodigy(RATE)], ids=["constant", "prodigy"])
def test_a_state_without_a_schedule_is_refused(tx):
    with pytest.raises(InputError, match="no count of a schedule"):
        resume_schedules(tx, tx.init(PARAMS), PARAMS, step=3)


def test_bad_steps_and_states_are_refused():
    tx = optax.adam(RATE)
    with pytest.raises(InputError, match="step"):
        resume_schedules(tx, tx.init(PARAMS), PARAMS, step=-1)
    with pytest.raises(StructureError, match="state"):
        resume_schedules(tx, optax.sgd(RATE, momentum=0.9).init(PARAMS), PARAMS, step=1)


# A search in a loop of one's own, which is compared with the library's.
X = jax.random.normal(jax.random.key(0), (64, 6))
Y = X[:, :1] - X[:, 1:2]
START = {"kernel": jax.random.normal(jax.random.key(1), (6, 1))}
STEPS, REWOUND_TO = 12, 20
DECAY = optax.linear_schedule(0.1, 0.0, REWOUND_TO + STEPS)


def loss(params, x, y):
    return jnp.mean((x @ params["kernel"] - y) ** 2)


def own_loop(tx, *, resume):
    """A `TrainFn` whose batches are all examples."""

    @jax.jit
    def step_fn(params, opt_state, mask):
        grads = jt.apply_mask(jax.grad(loss)(params, X, Y), mask)
        updates, opt_state = tx.update(grads, opt_state, params)
        return jt.apply_mask(optax.apply_updates(params, updates), mask), opt_state

    def train(params, state, mask, key, *, step, opt_state):
        if opt_state is None:
            opt_state = tx.init(params)
            if resume:
                opt_state = resume_schedules(tx, opt_state, params, step=step)
        for _ in range(STEPS):
            params, opt_state = step_fn(params, opt_state, mask)
        return Trained(params, state, {})

    return train


def search(train):
    ticket = jt.Ticket(START, filters.full_mask(START, filters.weights()), step=REWOUND_TO)
    densities = schedules.levels(3, rate=0.5)
    return list(jt.imp(train, ticket, densities=densities, prune=loops.prune_by(), key=jax.random.key(2)))


@pytest.mark.parametrize("optimizer", [optax.adam, functools.partial(optax.sgd, momentum=0.9)], ids=["adam", "sgd"])
def test_an_own_loop_that_resumes_finds_what_a_recipe_finds(optimizer):
    recipe = training.Recipe(
        loss=lambda params, state, batch, key: (loss(params, batch["x"], batch["y"]), state),
        data={"x": X, "y": Y},
        learning_rate=DECAY,
        batch_size=len(X),
        optimizer=optimizer,
    )
    expected = search(training.train_fn(training.fit(recipe), steps=STEPS))
    levels = search(own_loop(optimizer(DECAY), resume=True))
    restarted = search(own_loop(optimizer(DECAY), resume=False))
    for level, other, wrong in zip(levels, expected, restarted, strict=True):
        assert level.ticket.step == REWOUND_TO
        assert_same(level.ticket.mask, other.ticket.mask)
        close = functools.partial(np.allclose, level.trained.params["kernel"], atol=1e-5)
        assert close(other.trained.params["kernel"])
        assert not close(wrong.trained.params["kernel"]), "the rate of step 0 trains another network"
