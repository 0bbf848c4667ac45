"""Restarted moments: their own step count restarts with them, counts of schedules never do, whatever the optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import schedules, scores
from tests.tiers import sample

SWITCH = 300  # the step at which everything comes back
RATE = optax.linear_schedule(1e-2, 1e-3, 2 * SWITCH)


def at_switch(state):
    """The counts of `scale_by_schedule` as they are at the switch, by name: no other state has that name."""
    is_schedule = lambda x: isinstance(x, optax.ScaleByScheduleState)
    moved = lambda x: x._replace(count=jnp.int32(SWITCH)) if is_schedule(x) else x
    return jax.tree.map(moved, state, is_leaf=is_schedule)


def injected_at_switch(state):
    return at_switch(state)._replace(count=jnp.int32(SWITCH), hyperparams_states=jax.tree.map(
        lambda s: jnp.int32(SWITCH), state.hyperparams_states))  # fmt: skip


def kinds(params):
    return jax.tree.map(lambda p: "matrix" if p.ndim == 2 else "vector", params)


SPLIT = {"matrix": optax.adam(RATE), "vector": optax.sgd(RATE, momentum=0.9)}
OPTIMIZERS = {  # and the fresh state, with the counts of its schedules where they are at the switch
    "adam": (optax.adam(1e-2), at_switch),
    "adam of a schedule": (optax.adam(RATE), at_switch),
    "adamw": (optax.adamw(RATE, weight_decay=0.1), at_switch),
    "amsgrad": (optax.amsgrad(RATE), at_switch),
    "nadam": (optax.nadam(RATE), at_switch),
    "adabelief": (optax.adabelief(RATE), at_switch),
    "lamb": (optax.lamb(RATE, weight_decay=0.1), at_switch),
    "lion": (optax.lion(RATE), at_switch),
    "yogi": (optax.yogi(RATE), at_switch),
    "rmsprop": (optax.rmsprop(RATE, bias_correction=True), at_switch),
    "momentum": (optax.sgd(RATE, momentum=0.9), at_switch),
    "muon": (optax.contrib.muon(RATE), at_switch),
    "chain": (optax.chain(optax.clip_by_global_norm(1.0), optax.adam(RATE), optax.ema(0.9)), at_switch),
    "masked": (optax.masked(optax.adam(RATE), lambda params: jax.tree.map(lambda p: p.ndim == 2, params)), at_switch),
    "multi_transform": (optax.multi_transform(SPLIT, kinds), at_switch),
    "inject_hyperparams": (optax.inject_hyperparams(optax.adam)(learning_rate=RATE), injected_at_switch),
}
PARAMS = {"dense": {"kernel": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "bias": jnp.ones(4)}}


def make_grads(step):
    return jax.tree.map(lambda p: 0.3 + 0.1 * jnp.cos(step + jnp.arange(float(p.size)).reshape(p.shape)), PARAMS)


def phases():
    compress, decompress = schedules.at([2]), schedules.at([SWITCH])
    refresh = jt.alternate(scores.magnitude, 0.5, compress=compress, decompress=decompress)
    return jt.Plan(refresh, schedules.either(compress, decompress), newborn="reset_all")


@pytest.mark.parametrize("name", sample(OPTIMIZERS, ("adam", "lamb", "multi_transform", "inject_hyperparams")))
def test_after_a_restart_the_optimizer_is_a_fresh_one_at_that_step_of_its_schedules(name):
    inner, fresh_at = OPTIMIZERS[name]
    tx = jt.sparsify(inner, phases())

    def body(step, carry):
        updates, state = tx.update(make_grads(step), carry[1], carry[0])
        return optax.apply_updates(carry[0], updates), state

    params, state = jax.jit(lambda c: jax.lax.fori_loop(0, SWITCH, body, c))(jt.init(tx, PARAMS))
    expected, fresh = params, fresh_at(inner.init(params))
    for step in range(SWITCH, SWITCH + 6):
        params, state = body(step, (params, state))
        updates, fresh = inner.update(make_grads(step), fresh, expected)
        expected = optax.apply_updates(expected, updates)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), params, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5), state.inner, fresh)


def first_moves(tx, steps, params=None):
    """The sizes of the updates of the only weights, relative to the learning rate 0.01."""
    params, state = jt.init(tx, {"kernel": jnp.ones((1, 2))} if params is None else params)
    update, moves = jax.jit(tx.update), []
    for _ in range(steps):
        updates, state = update({"kernel": jnp.ones((1, 2))}, state, params)
        params = optax.apply_updates(params, updates)
        moves.append(np.abs(np.asarray(updates["kernel"][0])) / 0.01)
    return np.asarray(moves)


def test_ac_dc_under_adam_makes_no_step_above_its_rate():
    """Moments without their count restarted make steps of 2.5 to 5.2 times the rate (a_08)."""
    moves = first_moves(jt.sparsify(optax.adam(0.01), phases()), SWITCH + 60)[SWITCH:]
    assert moves.max() <= 1.001


def test_params_of_a_single_array_restart_too():
    tx = jt.sparsify(optax.adam(RATE), phases()._replace(refresh=jt.alternate(
        scores.magnitude, 0.5, compress=schedules.at([2]), decompress=schedules.at([SWITCH]),
        where=jt.filters.everything())))  # fmt: skip
    params, state = jt.init(tx, jnp.arange(1.0, 5.0))
    state = state._replace(steps=jnp.int32(2))
    _, state = tx.update(jnp.ones(4), state, params)
    state = state._replace(steps=jnp.int32(SWITCH))
    _, state = tx.update(jnp.ones(4), state, params)
    assert int(state.inner[0].count) == 1
    assert int(state.inner[1].count) == 2


def test_schedule_free_keeps_its_weights_through_a_restart():
    """Its state holds weights, not moments: they restart at the parameters, not at zero."""
    inner = optax.contrib.schedule_free(optax.sgd(0.1), learning_rate=0.1)
    tx = jt.sparsify(inner, phases())
    params, state = jt.init(tx, PARAMS)
    _, state = tx.update(make_grads(0), state._replace(steps=jnp.int32(2)), params)
    params = jt.apply_mask(params, state.mask)
    grads = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, state = tx.update(grads, state._replace(steps=jnp.int32(SWITCH)), params)
    moved = optax.apply_updates(params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), moved, params)


@pytest.mark.parametrize(
    ("inner", "first"),
    [
        (optax.adam(0.01), 0.1 / np.sqrt(0.001) * np.sqrt(1 - 0.999**1002)),
        (optax.chain(optax.scale_by_adam(), optax.clip(1.0), optax.scale_by_learning_rate(0.01)), 1.0),
    ],
    ids=["adam", "clipped"],
)
def test_the_first_step_of_a_weight_born_under_a_running_adam(inner, first):
    """(1 − b1) / √(1 − b2) = 3.16 times the rate in the end, unless the direction is clipped to 1."""
    grow = jt.Plan(jt.regrow(scores.random, scores.magnitude, 0.0), schedules.at([0]))
    born = jt.transforms.MaskTransform(
        grow.refresh.init, lambda mask, state, **_: (jax.tree.map(jnp.ones_like, mask), state)
    )
    plan = jt.Plan(born, schedules.at([1000]))
    tx = jt.sparsify(inner, plan, mask={"kernel": jnp.array([[True, False]])})
    moves = first_moves(tx, 1100)
    assert moves[1000, 1] == 0
    np.testing.assert_allclose(moves[1001, 1], first, rtol=2e-3)
    assert moves[:, 0].max() <= 1.001
