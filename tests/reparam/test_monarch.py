"""Monarch reparametrisation: it projects, trains its factors, and is made dense without a change of the outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import execution, filters, reparam
from jaxticket.errors import InputError

HIDDEN = filters.match("hidden")


def network():
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "hidden": {"kernel": jax.random.normal(keys[0], (16, 32)) / 4, "bias": jnp.zeros((1, 32))},
        "output": {"kernel": jax.random.normal(keys[1], (32, 4)) / 6, "bias": jnp.zeros((1, 4))},
    }


def apply(params, x):
    h = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return h @ params["output"]["kernel"] + params["output"]["bias"]


def test_projection_and_export():
    params = network()
    method = reparam.monarch(blocks=4, where=HIDDEN)
    latent = method.init(params)
    expected = execution.pack_monarch(params["hidden"]["kernel"], blocks=4).dense()
    dense, mask = reparam.export(method, latent, count=0)
    np.testing.assert_array_equal(dense["hidden"]["kernel"], expected)
    np.testing.assert_array_equal(dense["output"]["kernel"], params["output"]["kernel"])
    assert mask["output"]["kernel"] is None
    assert bool(mask["hidden"]["kernel"].all())
    assert jax.tree.structure(dense) == jax.tree.structure(params)


def test_training_the_factors_is_training_the_kernels_of_the_model():
    """Steps through dense kernels equal steps of a model that multiplies by the factors, and leave one output."""
    x = jax.random.normal(jax.random.key(1), (8, 16))
    method, params = reparam.monarch(blocks=4, where=HIDDEN), network()
    latent = method.init(params)
    fast = {**params, "hidden": {**params["hidden"], "kernel": latent.learned["hidden"]["kernel"]}}
    tx = method.wrap(optax.sgd(0.1))
    loss = lambda params: jnp.mean((apply(params, x) - 1) ** 2)
    state, slow_state = optax.sgd(0.1).init(fast), tx.init(latent)
    start = loss(fast)
    for _ in range(5):
        fast = optax.apply_updates(fast, optax.sgd(0.1).update(jax.grad(loss)(fast), state)[0])
        grads = jax.grad(lambda latent: loss(method.realise(latent, count=0)))(latent)
        updates, slow_state = tx.update(grads, slow_state, latent)
        latent = optax.apply_updates(latent, updates)
    assert loss(fast) < 0.8 * start
    dense, _ = reparam.export(method, latent, count=0)
    np.testing.assert_allclose(apply(dense, x), apply(fast, x), rtol=1e-4, atol=1e-5)


def test_draws_differ_by_leaf_and_need_a_key():
    params = {"a": {"kernel": jnp.ones((8, 8))}, "b": {"kernel": jnp.ones((8, 8))}}
    method = reparam.monarch(draw=True)
    with pytest.raises(InputError, match="key"):
        method.init(params)
    a, b = (layer["kernel"] for layer in method.init(params, key=jax.random.key(0)).learned.values())
    assert not np.array_equal(a.values[0], b.values[0])


@pytest.mark.parametrize("shape", [(3, 3, 4, 4), (0, 4)])
def test_what_is_not_a_matrix_is_refused(shape):
    with pytest.raises(InputError, match="'conv/kernel' has shape"):
        reparam.monarch().init({"conv": {"kernel": jnp.ones(shape)}})


@pytest.mark.parametrize("options", [{"blocks": 0}, {"blocks": (2, 2, 2)}, {"rank": 0}])
def test_bad_counts_are_refused_at_once(options):
    with pytest.raises(InputError, match=next(iter(options))):
        reparam.monarch(**options)
