"""What the matrix cannot say of all optimizers: wrappers that skip, accumulate or average; masks that are swapped."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt

PARAMS = {"kernel": jnp.array([[4.0, -3.0, 2.0, -1.0]]), "bias": jnp.ones((1, 4))}
MASK = {"kernel": jnp.array([[True, True, False, False]]), "bias": None}


def _gradients(kernel: Any) -> Any:
    return {"kernel": jnp.asarray([kernel], jnp.float32), "bias": jnp.ones((1, 4))}


def _assert_equal(actual: Any, expected: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("constraint", [jt.keep_params_sparse, jt.freeze])
def test_a_new_mask_of_a_constraint_does_not_recompile(constraint: Any) -> None:
    traces = []

    @jax.jit
    def step(params: Any, grads: Any, mask: Any) -> Any:
        traces.append(mask)
        tx = optax.chain(optax.sgd(1.0), constraint(mask))
        return optax.apply_updates(params, tx.update(grads, tx.init(params), params)[0])

    for mask in (MASK, {"kernel": ~MASK["kernel"], "bias": None}):
        moved = step(PARAMS, _gradients([1, 1, 1, 1]), mask)
        outside = jnp.zeros(4) if constraint is jt.keep_params_sparse else PARAMS["kernel"]
        _assert_equal(moved["kernel"], jnp.where(mask["kernel"], PARAMS["kernel"] - 1, outside))
    assert len(traces) == 1


def test_a_new_mask_in_the_state_does_not_recompile() -> None:
    traces = []
    tx = jt.sparsify(optax.adam(0.1), jt.static(0.5))

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        traces.append(state)
        updates, state = tx.update(_gradients([1, 1, 1, 1]), state, params)
        return optax.apply_updates(params, updates), state

    params, state = jt.init(tx, PARAMS)
    params, state = step(params, state)
    other = {"kernel": ~MASK["kernel"], "bias": None}
    params, state = step(jt.apply_mask(PARAMS, other), state._replace(mask=other))
    _assert_equal(params["kernel"] != 0, other["kernel"])
    assert len(traces) == 1


def test_multi_steps_outside_counts_optimizer_steps_and_scores_accumulated_gradients() -> None:
    plan = jt.rigl(0.5, every=2, stop=100, drop_fraction=0.5)
    tx = optax.MultiSteps(jt.sparsify(optax.sgd(0.1), plan, mask=MASK), every_k_schedule=2).gradient_transformation()
    params, state = jt.init(tx, PARAMS)
    # Refreshes are due at the optimizer steps 0, 2, …: let the first pass without a choice to make.
    first = _gradients([9, -9, 0, 0])
    for grads in (first, first):
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    _assert_equal(jt.mask_of(state)["kernel"], MASK["kernel"])
    for _ in range(2):  # the optimizer step 1 is a plain one
        updates, state = tx.update(first, state, params)
        params = optax.apply_updates(params, updates)
    # Each micro-step alone would grow entry 2 and then entry 3; their sum favours entry 3.
    for kernel, changed in (([0, 0, 5, 1], False), ([0, 0, -4, 3], True)):
        updates, state = tx.update(_gradients(kernel), state, params)
        params = optax.apply_updates(params, updates)
        assert bool((jt.mask_of(state)["kernel"] != MASK["kernel"]).any()) == changed
    _assert_equal(jt.mask_of(state)["kernel"], jnp.array([[True, False, False, True]]))


def test_multi_steps_inside_counts_micro_steps() -> None:
    inner = optax.MultiSteps(optax.sgd(0.1), every_k_schedule=2).gradient_transformation()
    tx = jt.sparsify(inner, jt.static(), mask=MASK)
    params, state = jt.init(tx, PARAMS)
    for count in (1, 2):
        updates, state = tx.update(_gradients([1, 1, 1, 1]), state, params)
        params = optax.apply_updates(params, updates)
        assert state.steps == count
    np.testing.assert_allclose(params["kernel"], [[3.9, -3.1, 0, 0]], rtol=1e-6)


def test_apply_if_finite_outside_skips_mask_and_weights_together() -> None:
    tx = optax.apply_if_finite(jt.sparsify(optax.adam(0.1), jt.rigl(0.5, every=1, stop=9), mask=MASK), 3)
    params, state = jt.init(tx, PARAMS)
    updates, skipped = tx.update(_gradients([1, 1, jnp.nan, 9]), state, params)
    _assert_equal(optax.apply_updates(params, updates), params)
    _assert_equal(skipped.inner_state, state.inner_state)
    updates, moved = tx.update(_gradients([1, 1, 5, 9]), skipped, params)
    assert moved.inner_state.steps == 1


@pytest.mark.parametrize("plan", [jt.static(), jt.gradual(0.25, stop=4, every=2)], ids=["static", "gradual"])
def test_schedule_free_evaluates_sparse_parameters(plan: jt.Plan) -> None:
    tx = jt.sparsify(optax.contrib.schedule_free(optax.sgd(0.1), learning_rate=0.1), plan, mask=MASK)
    params, state = jt.init(tx, PARAMS)
    for _ in range(6):
        updates, state = tx.update(_gradients([1, -1, 1, -1]), state, params)
        params = optax.apply_updates(params, updates)
    mask = jt.mask_of(state)
    averaged = jt.apply_mask(optax.contrib.schedule_free_eval_params(state.inner, params), mask)
    _assert_equal((averaged["kernel"] == 0, params["kernel"] == 0), (~mask["kernel"], ~mask["kernel"]))


def test_shared_statistics_of_adafactor_outlive_a_refresh() -> None:
    """Law 6's exception: a row or column sum belongs to no weight, so that only the step itself changes it."""
    inner = optax.adafactor(0.1, min_dim_size_to_factor=2)
    params = {"kernel": jnp.arange(1.0, 9.0).reshape(2, 4)}
    mask = {"kernel": jnp.arange(8).reshape(2, 4) % 2 == 0}
    tx = jt.sparsify(inner, jt.rigl(0.5, every=1, stop=100), mask=mask)
    params, state = jt.init(tx, params)
    _, refreshed = tx.update({"kernel": jnp.where(mask["kernel"], 0.0, 1.0)}, state, params)
    assert bool((refreshed.mask["kernel"] != mask["kernel"]).any())
    # The gradient is that of newborn weights alone, which wait a step.
    stayed = jt.apply_mask(params, jt.masks.intersection(mask, refreshed.mask))
    _, expected = inner.update(jax.tree.map(jnp.zeros_like, params), state.inner, stayed)
    _assert_equal(refreshed.inner, expected)
