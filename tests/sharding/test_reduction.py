"""Law 2: gradients summed in a fixed order have the same bits on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from jaxticket import models, sharding
from jaxticket.errors import InputError
from jaxticket.training import Recipe

DEVICES = (1, 2, 4, 8)


def make_mesh(devices, kind=AxisType.Auto):
    return jax.make_mesh((devices,), ("data",), axis_types=(kind,), devices=jax.devices()[:devices])


def loss(params, state, batch, key):
    x, y = batch
    noise = jax.random.normal(key, (x.shape[1],))[None]
    h = jnp.tanh((x + 0.1 * noise) @ params["w"])
    state = {"mean": h.mean(0), "seen": state["seen"] + 1}
    return jnp.mean(jnp.square(h @ params["v"] - y)), state


def problem():
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    params = {"w": normal(12, 7), "v": normal(7, 3)}
    return params, {"mean": jnp.zeros(7), "seen": jnp.int32(4)}, (normal(32, 12), normal(32, 3)), jax.random.key(1)


def test_a_fixed_order_has_the_same_bits_on_every_mesh():
    meshes = [*map(make_mesh, DEVICES), make_mesh(8, AxisType.Explicit)]
    found = [jax.jit(sharding.value_and_grad(loss, mesh=mesh, reduction="fixed"))(*problem()) for mesh in meshes]
    for other in found[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), other, found[0])


def test_a_fixed_order_is_the_mean_over_the_parts():
    params, state, batch, key = problem()
    fixed = jax.jit(sharding.value_and_grad(loss, mesh=make_mesh(2), reduction="fixed", shards=4))
    (value, new), grads = fixed(params, state, batch, key)
    parts = [
        jax.value_and_grad(loss, has_aux=True)(
            params, state, jax.tree.map(lambda x, i=i: x[8 * i : 8 * i + 8], batch), jax.random.fold_in(key, i)
        )
        for i in range(4)
    ]
    mean = jax.tree.map(lambda *xs: np.mean(np.stack(xs), 0), *parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), ((value, new), grads), mean)
    assert new["seen"].dtype == jnp.int32
    assert int(new["seen"]) == 5


def test_any_order_is_the_gradient_of_the_whole_batch():
    plain = jax.jit(jax.value_and_grad(loss, has_aux=True))(*problem())
    for mesh in (None, make_mesh(8)):
        found = jax.jit(sharding.value_and_grad(loss, mesh=mesh))(*problem())
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), found, plain)


@pytest.mark.slow
def test_trainings_with_batch_norm_end_in_the_same_bits():
    model = models.resnet_20(width=4)
    params, state = model.init(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (32, 8, 8, 3)), jnp.arange(32) % 10

    def cross_entropy(params, state, batch, key):
        logits, state = model.apply(params, state, batch[0], train=True, key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean(), state

    def trained(devices):
        recipe = Recipe(
            loss=cross_entropy,
            data=images,
            learning_rate=optax.constant_schedule(0.05),
            batch_size=16,
            optimizer=lambda rate: optax.sgd(rate, momentum=0.9),
            mesh=make_mesh(devices),
            reduction="fixed",
        )
        carry = jax.jit(recipe.begin)(params, state, None)
        mask = jax.tree.map(lambda p: jnp.ones(p.shape, bool), params)
        step = jax.jit(recipe.step)
        order = jnp.arange(32)
        for at in range(4):
            carry = step(carry, at, data=images, order=order, mask=mask, key=jax.random.key(2), shift=0)
            jax.block_until_ready(carry)
        return carry

    alone = trained(1)
    for devices in DEVICES[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), trained(devices), alone)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"reduction": "mean"}, "reduction='mean' must be one of any, fixed"),
        ({"reduction": "fixed"}, r'reduction="fixed" needs mesh='),
        ({"mesh": make_mesh(2), "axis": "batch"}, r"axis='batch' is not an axis of the mesh, which has \['data'\]"),
        ({"mesh": make_mesh(2), "reduction": "fixed", "shards": 6}, "shards=6 must be a power of 2"),
        ({"mesh": make_mesh(4), "reduction": "fixed", "shards": 2}, "shards=2 must be a power of 2 that 4 devices"),
    ],
)
def test_bad_arguments_say_what_to_change(arguments, words):
    with pytest.raises(InputError, match=words):
        sharding.value_and_grad(loss, **arguments)


def test_a_batch_that_does_not_divide_is_named():
    params, state, (x, y), key = problem()
    fixed = sharding.value_and_grad(loss, mesh=make_mesh(2), reduction="fixed")
    with pytest.raises(InputError, match=r"batch\[0\] has shape \(30, 12\); .* multiple of 8 shards"):
        fixed(params, state, (x[:30], y[:30]), key)
    with pytest.raises(InputError, match="batch_size=12 must be a multiple of 8"):
        Recipe(
            loss=loss,
            data=x,
            learning_rate=optax.constant_schedule(0.1),
            batch_size=12,
            mesh=make_mesh(1),
            reduction="fixed",
        )
