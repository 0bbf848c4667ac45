"""Scores of weights in half precision and less: small products keep their order, and floors hold without infinity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from jaxticket import scopes, scores, transforms

SIZES = np.random.default_rng(0).permutation(1024).reshape(32, 32)
# All saliencies |p · g| are 1e-6 or less but for the best 76, the smallest far below float16's 6e-8.
WEIGHTS = {"kernel": jnp.asarray(1e-3 * (1 + SIZES / 1024), jnp.float16)}
GRADS = {"kernel": jnp.asarray(1e-5 * (1 + SIZES / 1024), jnp.float16)}


def prune(params, transform):
    mask, state = transform.init(params, None, key=None)
    return transform.update(mask, state, params=params, grads=None, count=0, key=None, aux=None)[0]


@pytest.mark.parametrize("score", [scores.saliency, scores.movement])
def test_products_of_float16_keep_their_order(score):
    scored = score(WEIGHTS, grads=GRADS)["kernel"]
    exact = np.float64(WEIGHTS["kernel"]) * np.float64(GRADS["kernel"])
    assert scored.dtype == jnp.float32
    np.testing.assert_allclose(np.abs(scored), exact, rtol=1e-6)
    mask = np.asarray(jt.select(jax.tree.map(jnp.abs, {"kernel": scored}), 0.25)["kernel"])
    assert exact[mask].min() >= exact[~mask].max()


def test_gradients_are_not_cast_to_the_weights():
    """Gradients in float32 of float16 weights: those below 6e-8 are not all zero."""
    grads = {"kernel": jnp.asarray(1e-9 * (1 + SIZES), jnp.float32)}
    scored = scores.gradient(WEIGHTS, grads=grads)["kernel"]
    np.testing.assert_array_equal(scored, grads["kernel"])


def test_sums_of_scores_are_wide():
    small = lambda params, **signals: jax.tree.map(lambda p: jnp.full_like(p, 6e-8), params)
    both = scores.weighted_sum((small, 0.25), (small, 0.25))(WEIGHTS)["kernel"]
    np.testing.assert_allclose(both, 0.5 * np.float32(np.float16(6e-8)), rtol=1e-6)


def test_the_average_of_gradients_does_not_stand_still():
    evolve = transforms.average_gradients(transforms.regrow(scores.magnitude, scores.gradient, 0.3), decay=0.999)
    state = evolve.init(WEIGHTS, {"kernel": jnp.ones((32, 32), bool)}, key=None)[1]
    ones = {"kernel": jnp.ones((32, 32), jnp.float16)}
    for _ in range(400):
        state = evolve.observe(state, params=WEIGHTS, grads=ones)
    np.testing.assert_allclose(state[1]["kernel"], 1 - 0.999**400, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz", "bfloat16"])
def test_floors_hold_without_infinity(dtype):
    """At density .25 the second leaf would keep nothing: ten of its weights are protected."""
    params = {"a": {"kernel": jnp.full((8, 8), 2.0, dtype)}, "b": {"kernel": jnp.full((8, 8), 0.5, dtype)}}
    mask = prune(params, transforms.prune(scores.magnitude, 0.25, scope=scopes.tree(), minimum=10))
    assert [int(m["kernel"].sum()) for m in (mask["a"], mask["b"])] == [22, 10]


def test_floors_keep_the_order_of_large_integers():
    base = 2**24
    integers = lambda params, **signals: {
        "a": jnp.arange(base, base + 8, dtype=jnp.int32)[None],
        "b": jnp.zeros((1, 8), jnp.int32),
    }
    params = {"a": jnp.ones((1, 8)), "b": jnp.ones((1, 8))}
    everywhere = jt.filters.everything()
    mask = prune(params, transforms.prune(integers, 0.25, scope=scopes.tree(), minimum=1, where=everywhere))
    np.testing.assert_array_equal(mask["a"][0], [0, 0, 0, 0, 0, 1, 1, 1])
    assert int(mask["b"].sum()) == 1
