"""`sparsify` comes last: what a transform after it, or an average around it, would leak is refused or counted."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import masks
from jaxticket.errors import InputError

PARAMS = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(8, 8)), jnp.float32)}


def make_sparse(inner=None):
    return jt.sparsify(inner or optax.adam(0.1), jt.rigl(0.25, every=1, stop=9), key=jax.random.key(0))


LEAKS = {
    "scale": optax.chain(make_sparse(optax.scale_by_adam()), optax.scale(-0.1)),
    "decay": optax.chain(make_sparse(), optax.add_decayed_weights(0.1)),
    "in a partition": optax.partition({"all": optax.chain(make_sparse(), optax.scale(1.0))}, {"w": "all"}),
    "schedule_free": optax.contrib.schedule_free(make_sparse(), learning_rate=0.1),
}


@pytest.mark.parametrize("name", LEAKS)
def test_what_acts_after_sparsify_is_refused(name):
    with pytest.raises(InputError, match=r"sparsify\(optax.chain"):
        jt.init(LEAKS[name], PARAMS)


def test_lookahead_is_refused():
    tx = optax.lookahead(make_sparse(), sync_period=3, slow_step_size=0.5)
    with pytest.raises(InputError, match="LookaheadState around sparsify"):
        jt.init(tx, optax.LookaheadParams(PARAMS, PARAMS))


def test_it_would_have_leaked():
    """The reason for the refusal, without `jt.init`, which refuses."""
    tx = LEAKS["scale"]
    params, state = PARAMS, tx.init(PARAMS)
    updates, state = tx.update(jax.tree.map(jnp.cos, params), state, params)
    assert int(masks.outside(optax.apply_updates(params, updates), jt.mask_of(state))) > 0


@pytest.mark.parametrize(
    "tx",
    [
        optax.chain(optax.clip_by_global_norm(1.0), make_sparse()),
        make_sparse(optax.chain(optax.scale_by_adam(), optax.scale(-0.1))),
        optax.MultiSteps(make_sparse(), 2).gradient_transformation(),
        optax.apply_if_finite(make_sparse(), 3),
        optax.partition({"all": make_sparse()}, {"w": "all"}),
    ],
    ids=["last in a chain", "around a chain", "multi_steps", "apply_if_finite", "partition"],
)
def test_what_keeps_the_mask_passes(tx):
    params, state = jt.init(tx, PARAMS)
    for step in range(3):
        updates, state = tx.update(jax.tree.map(lambda p, t=step: jnp.cos(p + t), params), state, params)
        params = optax.apply_updates(params, updates)
    assert int(masks.outside(params, jt.mask_of(state))) == 0


def test_an_average_of_parameters_is_masked_where_it_is_used():
    """The recipe for averages, with optax's and haiku's: under a mask that moves they hold weights that died."""
    tx = jt.sparsify(optax.adam(0.1), jt.sparse_evolutionary(0.25, every=1), key=jax.random.key(0))
    params, state = jt.init(tx, PARAMS)
    ema = optax.ema(0.9)
    ema_state = ema.init(params)
    average = hk.transform_with_state(lambda p: hk.ExponentialMovingAverage(0.9)(p))
    _, moving = average.init(None, params["w"])
    for step in range(6):
        updates, state = tx.update(jax.tree.map(lambda p, t=step: jnp.cos(7 * p + t), params), state, params)
        params = optax.apply_updates(params, updates)
        by_optax, ema_state = ema.update(params, ema_state)
        by_haiku, moving = average.apply({}, moving, None, params["w"])
    mask = jt.mask_of(state)
    for averaged in (by_optax, {"w": by_haiku}):
        assert int(masks.outside(averaged, mask)) > 0
        assert int(masks.outside(jt.apply_mask(averaged, mask), mask)) == 0


def test_outside_counts():
    mask = {"a": jnp.array([[True, False, False]]), "b": None}
    params = {"a": jnp.array([[1.0, -2.0, 0.0], [jnp.nan, jnp.nan, 0.0]]), "b": jnp.ones(3)}
    assert int(masks.outside(params, mask)) == 2
    assert int(jax.jit(masks.outside)(params, mask)) == 2
