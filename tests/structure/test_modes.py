"""Removal under transformations of transformations, in all dtypes, on meshes, and by iterative pruning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxticket as jt
from jaxticket import structure
from tests.structure import _removal
from tests.structure.test_removal import X, mlp, mlp_params

PARAMS = mlp_params()
GROUPS = structure.trace(mlp, PARAMS, X)
KEPT = _removal.draw(GROUPS, 1)
BATCH = jax.random.normal(jax.random.key(4), (8, 5))
EVERYTHING = jt.filters.everything()


@jax.custom_vjp
def cosine_rule(x):
    return jnp.tanh(x)


cosine_rule.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (g * jnp.cos(x),))


def two_layers(activation):
    return lambda p, x: activation(x @ p["a"]["kernel"]) @ p["b"]["kernel"]


def second_derivative(apply, variables):
    """Return the gradient of the squared gradient."""
    loss = lambda p: jnp.sum(jnp.sin(apply(p, X)))
    return jax.grad(lambda p: sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(loss)(p))))(variables)


def forward_over_reverse(apply, variables):
    return jax.jvp(jax.grad(lambda p: jnp.sum(jnp.sin(apply(p, X)))), (variables,), (variables,))[1]


@pytest.mark.parametrize(
    ("activation", "derivative"),
    [
        (jax.nn.relu, second_derivative),
        (jax.nn.silu, second_derivative),
        (jax.nn.silu, forward_over_reverse),
        (cosine_rule, second_derivative),
    ],
)
def test_derivatives_of_derivatives(activation, derivative):
    apply, params = two_layers(activation), {name: {"kernel": PARAMS[name]["kernel"]} for name in "ab"}
    groups = structure.trace(apply, params, X)
    kept = _removal.draw(groups, 1)
    compiled = jax.jit(derivative, static_argnums=0)
    got = compiled(structure.replay(apply, kept, groups), structure.shrink(params, kept, groups))
    expected = structure.shrink(compiled(apply, _removal.zeroed(params, kept, groups)), kept, groups)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.max(jnp.abs(a))))


def test_several_variables_by_vmap():
    smaller, zeroed = structure.shrink(PARAMS, KEPT, GROUPS), _removal.zeroed(PARAMS, KEPT, GROUPS)
    stack = lambda tree: jax.tree.map(lambda x: jnp.stack([x, 2 * x]), tree)
    run = jax.jit(jax.vmap(structure.replay(mlp, KEPT, GROUPS), (0, None)))
    np.testing.assert_allclose(run(stack(smaller), X), jax.vmap(mlp, (0, None))(stack(zeroed), X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes_stay(dtype):
    with jax.enable_x64(dtype == "float64"):
        params, x = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), dtype), (PARAMS, X))
        smaller = structure.shrink(params, KEPT, GROUPS)
        out = jax.jit(structure.replay(mlp, KEPT, GROUPS))(smaller, x)
        back = structure.expand(smaller, KEPT, GROUPS)
        assert {leaf.dtype.name for leaf in jax.tree.leaves((smaller, out, back))} == {dtype}
        expected = jax.jit(mlp)(_removal.zeroed(params, KEPT, GROUPS), x)
        tolerance = {"float16": 1e-2, "bfloat16": 1e-1, "float64": 1e-12}[dtype]
        assert _removal.difference(expected, out, float(jnp.max(jnp.abs(expected)))) <= tolerance


def dilated(v, x):
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    x = jax.lax.conv_general_dilated(x, v["a"], (1, 1), "SAME", rhs_dilation=(2, 2), **options)
    x = jax.lax.conv_general_dilated(jnp.tanh(x), v["t"], (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2), **options)
    x = jax.lax.conv_general_dilated(
        jnp.tanh(x), v["b"], (2, 2), "VALID", rhs_dilation=(2, 1), feature_group_count=2, **options
    )
    return jnp.tanh(x).mean((1, 2)) @ v["c"]


def test_dilated_convolutions():
    shapes = {"a": (3, 3, 2, 6), "t": (3, 3, 6, 4), "b": (2, 2, 2, 8), "c": (8, 3)}
    variables = {name: jax.random.normal(jax.random.key(i), shape) for i, (name, shape) in enumerate(shapes.items())}
    x = jax.random.normal(jax.random.key(3), (2, 5, 5, 2))
    groups = structure.trace(dilated, variables, x)
    assert {g.name: g.width for g in groups} == {"a:3": 6, "t:3": 2, "b:3": 4}
    assert max(_removal.errors(dilated, variables, (x,))) <= 1e-5


def test_variables_on_a_mesh():
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    params, x = mlp_params((5, 16, 8, 4)), BATCH
    specs = {
        "a": {"kernel": P(None, "model"), "bias": P("model")},
        "b": {"kernel": P("model", None), "bias": P()},
        "c": {"kernel": P(None, "model")},
    }
    put = lambda tree, spec: jax.device_put(tree, jax.tree.map(lambda s: NamedSharding(mesh, s), spec))
    groups = structure.trace(mlp, params, x)
    kept = {"a/kernel:1": np.arange(16) % 3 > 0, "b/kernel:1": np.arange(8) < 5}  # sizes that do not divide
    smaller = structure.shrink(put(params, specs), kept, groups)
    out = jax.jit(structure.replay(mlp, kept, groups))(smaller, put(x, P("data")))
    zeroed = _removal.zeroed(params, kept, groups)
    np.testing.assert_allclose(out, mlp(zeroed, x), rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, structure.expand(smaller, kept, groups), zeroed)


def test_around_replay_devices_may_share_the_batch():
    smaller, run = structure.shrink(PARAMS, KEPT, GROUPS), structure.replay(mlp, KEPT, GROUPS)
    expected = mlp(_removal.zeroed(PARAMS, KEPT, GROUPS), BATCH)
    mesh = jax.make_mesh((8,), ("data",))
    mapped = jax.shard_map(run, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"))
    shared = jax.device_put(BATCH, NamedSharding(mesh, P("data")))
    np.testing.assert_allclose(jax.jit(mapped)(smaller, shared), expected, rtol=1e-4, atol=1e-5)
    by_device = jax.pmap(run, in_axes=(None, 0))(smaller, BATCH[:, None])
    np.testing.assert_allclose(by_device[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_iterative_pruning_takes_channels_from_channels():
    prune = jt.loops.prune_by(jt.scores.magnitude, unit=structure.unit(GROUPS), scope=jt.scopes.leaf())
    full = jt.filters.full_mask(PARAMS, EVERYTHING)
    half = prune(PARAMS, full, 0.5, key=jax.random.key(0))
    quarter = prune(PARAMS, half, 0.25, key=jax.random.key(0))
    for density, mask in ((0.5, half), (0.25, quarter)):
        kept = structure.channels(mask, GROUPS)
        assert {name: int(m.sum()) for name, m in kept.items()} == {
            "a/kernel:1": round(8 * density),
            "b/kernel:1": round(6 * density),
        }
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.all(a | ~b)), half, quarter)))
