"""Masks that are made again from the current weights: soft filter pruning, and FPGM's masks of each epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import schedules, scores, transforms, units
from jaxticket.errors import InputError

FILTERS = units.axis(-1, reduce=units.l2)
PARAMS = {"kernel": jnp.array([[1.0, 3.0, 2.0, 4.0], [1.0, 3.0, 2.0, 4.0]]), "bias": jnp.ones(4)}


def trained(tx, gradients):
    """The kernels after each of these gradients of all weights, and how often the step was traced."""
    params, state, seen, traces = PARAMS, tx.init(PARAMS), [], []

    @jax.jit
    def step(params, state, gradient):
        traces.append(None)
        grads = jax.tree.map(lambda p: jnp.full_like(p, gradient), params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for gradient in gradients:
        params, state = step(params, state, gradient)
        seen.append(np.asarray(params["kernel"][0]))
    assert len(traces) == 1
    np.testing.assert_allclose(params["bias"], 1 - 0.5 * np.sum(gradients))
    return seen


def test_soft_pruning_zeroes_filters_at_each_period_and_lets_them_train():
    tx = optax.chain(optax.sgd(0.5), transforms.soft_prune(0.5, when=schedules.every(2), unit=FILTERS))
    seen = trained(tx, [0.0, 0.0, -8.0, 0.0, 8.0])
    np.testing.assert_array_equal(seen[0], [1, 3, 2, 4])
    np.testing.assert_array_equal(seen[1], [0, 3, 0, 4])  # after the update
    np.testing.assert_array_equal(seen[2], [4, 7, 4, 8])  # zeroed filters follow their gradients
    np.testing.assert_array_equal(seen[3], [0, 7, 0, 8])
    np.testing.assert_array_equal(seen[4], [-4, 3, -4, 4])


def test_a_pruned_filter_that_grows_takes_the_place_of_another():
    tx = optax.chain(optax.sgd(1.0), transforms.soft_prune(0.5, when=schedules.every(1), unit=FILTERS))
    params, state = PARAMS, tx.init(PARAMS)
    for gradient in ([0.0, 0, 0, 0], [-9.0, 0, 0, 0]):
        grads = jax.tree.map(lambda p, g=gradient: jnp.broadcast_to(jnp.array(g), p.shape), params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(params["kernel"][0], [9, 0, 0, 4])


def test_replicates_are_zeroed_at_steps_of_their_own():
    def step(start, params):
        tx = transforms.soft_prune(0.5, when=lambda count: count >= start, unit=FILTERS)
        return optax.apply_updates(params, tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)[0])

    moved = jax.vmap(step, (0, None))(jnp.array([1, 2]), PARAMS)
    np.testing.assert_array_equal(moved["kernel"][:, 0], [[0, 3, 0, 4], [1, 3, 2, 4]])


def test_remade_masks_hold_between_refreshes_and_choose_among_all_filters():
    """FPGM's training: pruned filters rest at zero, but a mask is no subset of the one before."""
    plan = jt.transforms.Plan(transforms.remake(scores.magnitude, 0.5, unit=FILTERS), when=schedules.every(2))
    tx = jt.sparsify(optax.sgd(0.5), plan)
    params, state = jt.init(tx, PARAMS)
    seen = []
    for gradient in ([0.0] * 4, [-8.0] * 4, [0.0] * 4, [0.0, 7.0, 0, 8.0], [0.0] * 4):
        grads = {"kernel": jnp.broadcast_to(jnp.array(gradient), (2, 4)), "bias": jnp.zeros(4)}
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(np.asarray(params["kernel"][0]))
    np.testing.assert_array_equal(seen[0], [0, 3, 0, 4])
    np.testing.assert_array_equal(seen[1], [0, 7, 0, 8])
    np.testing.assert_array_equal(seen[2], [0, 7, 0, 8])
    np.testing.assert_array_equal(seen[3], [0, 3.5, 0, 4])

    transform = transforms.remake(scores.fpgm(), 0.5, unit=units.axis(-1))
    away = {"kernel": jnp.array([[-9.0, 0.0, 1.0, 9.0]]), "bias": jnp.ones(4)}
    old = {"kernel": jnp.array([[True, True, False, False]]), "bias": None}
    signals = {"grads": None, "count": 0, "key": None, "aux": None}
    new, _ = transform.update(old, (), params=away, **signals)
    np.testing.assert_array_equal(new["kernel"], [[True, False, False, True]])


def test_errors():
    tx = transforms.soft_prune(0.5, when=schedules.every(1))
    with pytest.raises(InputError, match="soft_prune: params=None"):
        tx.update(PARAMS, tx.init(PARAMS))
