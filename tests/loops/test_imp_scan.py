"""The search as one program: the levels of `imp`, compiled once, also for several replicates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import loops, schedules, scopes, training
from jaxticket.errors import InputError
from jaxticket.tickets import Ticket, rewinds
from jaxticket.typing import Trained
from tests.tiers import sample

X = jax.random.normal(jax.random.key(0), (64, 8))
Y = X @ jax.random.normal(jax.random.key(1), (8, 4))
DENSITIES = schedules.levels(4, rate=0.5)
traces = []


def loss(params, state, batch, key):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["a"]) @ params["b"] - y) ** 2), state


def make_ticket(seed=2, **options):
    a, b = jax.random.split(jax.random.key(seed))
    params = {"a": jax.random.normal(a, (8, 16)) / 3, "b": jax.random.normal(b, (16, 4)) / 4}
    return Ticket(params, jax.tree.map(lambda p: jnp.ones(p.shape, bool), params), **options)


def make_train(data=(X, Y), steps=20):
    recipe = training.Recipe(loss=loss, data=data, learning_rate=optax.constant_schedule(0.01), batch_size=16)
    train = training.scan_train(recipe, steps=steps)

    def counted(*args, **kwargs):
        traces.append(1)
        return train(*args, **kwargs)

    return counted


def search(ticket, key, densities=DENSITIES, **options):
    return loops.imp_scan(make_train(), ticket, densities=densities, prune=loops.prune_by(), key=key, **options)


POLICIES = {
    "weights": (rewinds.weights(), {"step": 3}),
    "learning_rate": (rewinds.learning_rate(), {}),
    "fine_tune": (rewinds.fine_tune(20), {}),
    "everything": (rewinds.everything(), {"step": 3}),
}


@pytest.mark.parametrize("policy", sample(POLICIES, ("weights", "everything")))
def test_its_levels_are_those_of_imp(policy):
    rewind, options = POLICIES[policy]
    ticket = make_ticket(**options)
    if policy == "everything":
        ticket = make_ticket(**options, opt_state=optax.adam(optax.constant_schedule(0.01)).init(ticket.params))
    key = jax.random.key(3)
    made = jax.jit(functools.partial(search, rewind=rewind))(ticket, key)
    train = make_train()
    compiled = jax.jit(train, static_argnames="step")
    levels = list(loops.imp(compiled, ticket, densities=DENSITIES, prune=loops.prune_by(), rewind=rewind, key=key))
    for level in levels:
        at = jax.tree.map(lambda x, i=level.index: x[i], made)
        jax.tree.map(np.testing.assert_array_equal, at.mask, level.ticket.mask)
        close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
        jax.tree.map(close, at.trained, Trained(*level.trained))
    assert [int(sum(m[i].sum() for m in jax.tree.leaves(made.mask))) for i in range(4)] == [192, 96, 48, 24]


def test_one_program_for_all_densities_tickets_and_keys():
    run = jax.jit(lambda ticket, key, rate: search(ticket, key, [1.0, *(1 - rate * jnp.arange(1.0, 4.0))]))
    sparse = run(make_ticket(), jax.random.key(0), 0.3)
    del traces[:]
    sparser = run(make_ticket(5), jax.random.key(1), 0.33)
    assert not traces
    kept = [sum(m[-1].sum() for m in jax.tree.leaves(levels.mask)) for levels in (sparse, sparser)]
    assert [int(k) for k in kept] == [round(192 * 0.1), round(192 * 0.01)]


def test_replicates_under_vmap_are_searches_of_their_own():
    tickets = [make_ticket(seed) for seed in (4, 5)]
    keys = jax.random.split(jax.random.key(6), 2)
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *tickets)
    together = jax.jit(jax.vmap(search))(stacked, keys)
    for i, ticket in enumerate(tickets):
        alone = jax.jit(search)(ticket, keys[i])
        jax.tree.map(lambda x, y, i=i: np.testing.assert_array_equal(x[i], y), together.mask, alone.mask)
        params = jax.tree.map(lambda x, i=i: x[i], together.trained.params)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), params, alone.trained.params)


def test_by_layer_one_shot_and_a_sparse_start():
    prune = loops.prune_by(scope=scopes.leaf())
    by_layer = [{"a": 0.5, "b": 1.0}, {"a": 0.25, "b": 0.5}]
    run = functools.partial(loops.imp_scan, make_train(), make_ticket(), prune=prune, key=jax.random.key(0))
    mask = jax.jit(lambda: run(densities=by_layer).mask)()
    assert mask["a"].sum((1, 2)).tolist() == [64, 32]
    assert mask["b"].sum((1, 2)).tolist() == [64, 32]
    assert jax.jit(lambda: run(densities=[0.5]).mask)()["a"].shape == (1, 8, 16)


def test_densities_are_checked_first():
    with pytest.raises(InputError, match="is above"):
        search(make_ticket(), jax.random.key(0), [0.5, 0.6])
    with pytest.raises(InputError, match="not a fraction"):
        search(make_ticket(), jax.random.key(0), [1.5])
