"""LeNet-300-100 as two pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket.errors import InputError
from jaxticket.models import lenet_300_100


@pytest.fixture(scope="module")
def model():
    return lenet_300_100()


@pytest.fixture(scope="module")
def params(model):
    return model.init(jax.random.key(0))[0]


def test_shapes_names_and_initialisation(model, params):
    shapes = jax.tree.map(lambda p: p.shape, params)
    assert shapes == {
        "hidden1": {"kernel": (784, 300), "bias": (300,)},
        "hidden2": {"kernel": (300, 100), "bias": (100,)},
        "output": {"kernel": (100, 10), "bias": (10,)},
    }
    for layer in params.values():
        glorot = np.sqrt(2 / sum(layer["kernel"].shape))
        assert abs(layer["kernel"].std() / glorot - 1) < 0.1
        assert not np.any(layer["bias"])
    assert type(params) is dict
    assert type(params["output"]["kernel"]) is type(jnp.ones(1))


def test_apply_is_the_network(model, params):
    x = jax.random.normal(jax.random.key(1), (4, 28, 28))
    h = x.reshape(4, 784)
    for name in ("hidden1", "hidden2", "output"):
        h = h @ params[name]["kernel"]
        h = h if name == "output" else jnp.maximum(h, 0)
    logits, state = jax.jit(lambda p, x: model.apply(p, None, x, train=True, key=None))(params, x)
    np.testing.assert_allclose(logits, h, rtol=1e-5, atol=1e-5)
    assert state is None


def test_the_same_key_gives_the_same_weights(model, params):
    same = jax.jit(model.init)(jax.random.key(0))[0]
    assert all(map(np.array_equal, jax.tree.leaves(same), jax.tree.leaves(params)))
    assert not np.array_equal(model.init(jax.random.key(1))[0]["output"]["kernel"], params["output"]["kernel"])


def test_sliced_parameters_run(model, params):
    thin = {
        "hidden1": jax.tree.map(lambda p: p[..., :7], params["hidden1"]),
        "hidden2": {"kernel": params["hidden2"]["kernel"][:7], "bias": params["hidden2"]["bias"]},
        "output": params["output"],
    }
    assert model.apply(thin, None, jnp.ones((2, 784)), train=False, key=None)[0].shape == (2, 10)


def test_bad_sizes():
    with pytest.raises(InputError, match="classes=0"):
        lenet_300_100(classes=0)
