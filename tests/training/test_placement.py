"""Replicates in one program: every placement gives every replicate its own result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import training
from jaxticket.errors import InputError
from jaxticket.training import Placement
from tests.tiers import sample

DEVICES = tuple(jax.devices())
traces = []


def descend(data, params, key):
    """A few steps towards a noisy target: shapes, loops and keys as in a training."""
    traces.append(1)
    target = data + 0.1 * jax.random.normal(key, data.shape)
    return jax.lax.fori_loop(0, 5, lambda i, p: {"w": p["w"] - 0.3 * (p["w"] - target)}, params)


def arguments(count):
    keys = jax.random.split(jax.random.key(0), count)
    return {"w": jnp.arange(4.0 * count).reshape(count, 4)}, keys


@pytest.mark.parametrize("each", ["vmap", "map", "sequence"])
@pytest.mark.parametrize(("devices", "count"), sample([(1, 3), (2, 4), (2, 3), (4, 2)], [(2, 3), (4, 2)]))
def test_every_placement_gives_the_same(each, devices, count):
    data = jnp.arange(4.0)
    params, keys = arguments(count)
    run = training.replicate(descend, placement=Placement(DEVICES[:devices], each, ""))
    results = jax.block_until_ready(run(data, params, keys))["w"]
    assert results.shape == (count, 4)
    for i in range(count):
        alone = descend(data, {"w": params["w"][i]}, keys[i])["w"]
        np.testing.assert_allclose(results[i], alone, rtol=1e-6)


def test_it_compiles_once():
    run = training.replicate(descend, placement=Placement(DEVICES[:2], "map", ""))
    jax.block_until_ready(run(jnp.arange(4.0), *arguments(4)))
    del traces[:]
    jax.block_until_ready(run(jnp.ones(4), *arguments(4)))
    assert not traces


def test_where_replicates_go():
    shape = lambda *shape: {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}
    two = DEVICES[:2]
    assert training.place(shape(784, 300), 8, devices=two)[:2] == (two, "map")
    assert training.place(shape(30, 10), 8, devices=two)[:2] == (two, "vmap")
    assert training.place(shape(3, 3, 16, 16), 8, devices=two)[:2] == (two[:1], "sequence")
    # No more devices than it takes for the same number of rounds: 5 replicates on 4 devices are 2 rounds on 3.
    assert len(training.place(shape(784, 300), 5, devices=DEVICES[:4]).devices) == 3
    assert len(training.place(shape(784, 300), 1, devices=DEVICES).devices) == 1


def test_bad_arguments():
    with pytest.raises(InputError, match="replicates=0"):
        training.place({}, 0)
    run = training.replicate(descend, placement=Placement(DEVICES[:1], "vmap", ""))
    with pytest.raises(InputError, match="leading axes"):
        run(jnp.arange(4.0), {"w": jnp.ones((2, 4))}, jax.random.split(jax.random.key(0), 3))
    with pytest.raises(InputError, match="leading axes"):
        run(jnp.arange(4.0), {"w": jnp.ones(())})
