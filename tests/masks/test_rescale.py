"""Initial weights rescaled by density: the rules of the authors, the variance that they keep, any framework's axes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import masks, scopes
from jaxticket.errors import StructureError


def bernoulli(shape, density, seed=0):
    return jax.random.bernoulli(jax.random.key(seed), density, shape)


def by_unit(weights, mask):
    """What `unit_scaled_init` of Evci et al. (2022) makes of "fanin", for weights drawn for all inputs."""
    scaled = np.zeros(weights.shape)
    fan_in = int(np.prod(weights.shape[:-1]))
    for index in np.ndindex(*weights.shape):
        if mask[index]:
            kept = max(mask[..., index[-1]].sum(), 1)
            scaled[index] = weights[index] * np.sqrt(fan_in / kept)
    return scaled


def by_layer(weights, mask):
    """What `layer_scaled_init` does: all weights over the root of the fraction that is left."""
    return np.where(mask, weights / np.sqrt(mask.mean()), 0)


@pytest.mark.parametrize(("scope", "rule"), [(scopes.slices(-1), by_unit), (scopes.leaf(), by_layer)])
@pytest.mark.parametrize("shape", [(12, 5), (3, 3, 4, 6)])
def test_it_follows_the_rules_of_the_authors(scope, rule, shape):
    weights, mask = jax.random.normal(jax.random.key(1), shape), bernoulli(shape, 0.3)
    mask = mask.at[..., 0].set(False)  # an output without inputs
    rescaled = masks.rescale_init({"kernel": weights}, {"kernel": mask}, scope=scope)["kernel"]
    np.testing.assert_allclose(rescaled, rule(np.asarray(weights), np.asarray(mask)), rtol=1e-5)


@pytest.mark.parametrize("density", [0.5, 0.1, 0.02])
def test_outputs_keep_the_variance_of_the_dense_layer(density):
    key_w, key_x = jax.random.split(jax.random.key(0))
    kernel, x = jax.random.normal(key_w, (1000, 400)) / 1000**0.5, jax.random.normal(key_x, (200, 1000))
    mask = bernoulli(kernel.shape, density)
    spread = lambda w: float(jnp.var(x @ w))
    assert spread(jt.apply_mask(kernel, mask)) == pytest.approx(density, rel=0.1)
    for scope in (scopes.leaf(), scopes.slices(-1)):
        assert spread(masks.rescale_init(kernel, mask, scope=scope)) == pytest.approx(1, rel=0.1)


def test_weights_of_equinox_have_their_outputs_first():
    weight, mask = jax.random.normal(jax.random.key(0), (5, 12)), bernoulli((5, 12), 0.4)
    rescaled = masks.rescale_init(weight, mask, scope=scopes.slices(0))
    np.testing.assert_array_equal(rescaled, masks.rescale_init(weight.T, mask.T, scope=scopes.slices(-1)).T)


def test_one_density_for_the_whole_tree_and_leaves_that_are_left_alone():
    params = {"a": jnp.ones((2, 2)), "b": jnp.ones((2, 2)), "bias": jnp.full(2, 3.0)}
    mask = {"a": jnp.ones((2, 2), bool), "b": jnp.zeros((2, 2), bool), "bias": None}
    rescaled = masks.rescale_init(params, mask, scope=scopes.tree())
    np.testing.assert_allclose(rescaled["a"], np.sqrt(2))
    np.testing.assert_array_equal(rescaled["b"], 0)
    np.testing.assert_array_equal(rescaled["bias"], 3)


def test_masks_that_broadcast_dtypes_and_density_1():
    params = {"kernel": jax.random.normal(jax.random.key(0), (4, 8), jnp.bfloat16)}
    mask = {"kernel": jnp.arange(8).reshape(1, 8) < 2}
    rescaled = jax.jit(masks.rescale_init)(params, mask)["kernel"]
    assert rescaled.dtype == jnp.bfloat16
    np.testing.assert_array_equal(rescaled, jnp.where(mask["kernel"], 2 * params["kernel"], 0))
    full = {"kernel": jnp.ones((1, 8), bool)}
    np.testing.assert_array_equal(masks.rescale_init(params, full)["kernel"], params["kernel"])


def test_a_sparse_training_starts_from_rescaled_weights():
    dense = {"kernel": jax.random.normal(jax.random.key(0), (20, 10))}
    tx = jt.sparsify(optax.sgd(0.1), jt.static(0.25, score=jt.scores.random), key=jax.random.key(1))
    params, state = jt.init(tx, dense)
    rescaled = masks.rescale_init(params, jt.mask_of(state))
    np.testing.assert_allclose(rescaled["kernel"], 2 * params["kernel"])
    assert int(masks.outside(rescaled, jt.mask_of(state))) == 0


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(StructureError, match="shape"):
        masks.rescale_init({"kernel": jnp.ones((4, 8))}, {"kernel": jnp.ones((4, 7), bool)})
