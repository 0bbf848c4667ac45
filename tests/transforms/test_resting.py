"""Resting of any optimizer is what where() around it would give, on steps that rest and on steps that do not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket.transforms._resting import update_unless
from tests.conformance.table import OPTIMIZERS

PARAMS = {"matrix": jnp.linspace(-1.0, 1.0, 48).reshape(6, 8), "vector": jnp.linspace(0.0, 1.0, 8)}


def gradients(seed):
    return jax.tree.map(lambda p: jax.random.normal(jax.random.key(seed), p.shape), PARAMS)


def expected(rest, update, grads, state, params):
    updates, stepped = update(grads, state, params)
    zeros = jax.tree.map(jnp.zeros_like, updates)
    return jax.tree.map(lambda old, new: jnp.where(rest, old, new), (zeros, state), (updates, stepped))


def check(update, grads, state, params):
    """Both steps, from a state that has moved."""
    for rest in (False, True):
        made = jax.jit(functools.partial(update_unless, update=update))(
            jnp.array(rest), grads=grads, state=state, params=params
        )
        wanted = jax.jit(functools.partial(expected, update=update))(
            jnp.array(rest), grads=grads, state=state, params=params
        )
        assert jax.tree.structure(made) == jax.tree.structure(wanted)
        jax.tree.map(np.testing.assert_array_equal, made, wanted)
        if rest:
            jax.tree.map(np.testing.assert_array_equal, made[1], state)


SAMPLE = ("momentum", "adam", "adafactor", "multi_transform", "inject_hyperparams", "muon")  # the others: slow


@pytest.mark.parametrize("name", [n if n in SAMPLE else pytest.param(n, marks=pytest.mark.slow) for n in OPTIMIZERS])
def test_every_optimizer(name):
    tx = optax.with_extra_args_support(OPTIMIZERS[name].inner())
    _, state = jax.jit(tx.update)(gradients(0), tx.init(PARAMS), PARAMS)
    check(tx.update, gradients(1), state, PARAMS)


def test_a_state_that_is_no_result_of_its_own():
    """The same array twice, what came in, a constant, and a leaf that changes its type."""

    def update(grads, state, params):
        moved = state["first"] + grads["vector"]
        updates = jax.tree.map(lambda p: p + moved.sum(), params)
        swapped = {"first": moved, "second": moved, "kept": state["same"], "same": state["kept"], "constant": 3.0}
        return updates, {**swapped, "wider": state["wider"].astype(jnp.float32) * 2}

    x = PARAMS["vector"]
    state = {"first": x, "second": 2 * x, "kept": 3 * x, "same": 4 * x, "constant": jnp.ones(())}
    state["wider"] = x.astype(jnp.float16)
    for rest in (False, True):
        made = update_unless(jnp.array(rest), update, gradients(0), state, PARAMS)
        wanted = expected(jnp.array(rest), update, gradients(0), state, PARAMS)
        jax.tree.map(np.testing.assert_array_equal, made, wanted)


def test_under_vmap_each_replicate_rests_by_itself():
    tx = optax.adam(0.1)
    state = tx.init(PARAMS)
    rest = jnp.array([True, False])
    updates, stepped = jax.vmap(lambda r: update_unless(r, tx.update, gradients(0), state, PARAMS))(rest)
    assert not updates["matrix"][0].any()
    assert updates["matrix"][1].all()
    assert stepped[0].count.tolist() == [0, 1]
