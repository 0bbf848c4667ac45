"""Shardings of parameters: along which axis, over which part of the mesh, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxticket as jt
from jaxticket import sharding
from jaxticket.errors import InputError, NoMatchError, StructureError

RULES = {"in/kernel": P(None, "tensor"), "out/kernel": P("tensor", None)}


def make_mesh(kind=AxisType.Auto):
    return jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(kind,) * 3)


def make_params():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return {"in": {"kernel": draw(12, 32), "bias": draw(32)}, "out": {"kernel": draw(32, 6)}, "odd": draw(5, 7)}


def specs(shardings):
    return jax.tree.map(lambda s: s.spec, shardings)


def test_fsdp_splits_the_largest_axis_that_divides():
    params = {**make_params(), "square": jnp.ones((8, 8)), "odd_rows": jnp.ones((9, 4)), "scalar": jnp.ones(())}
    found = specs(sharding.fsdp(params, make_mesh(), minimum=32))
    assert found["in"] == {"kernel": P(None, "fsdp"), "bias": P("fsdp")}
    assert found["out"]["kernel"] == P("fsdp", None)
    assert found["square"] == P(None, "fsdp")
    assert found["odd_rows"] == P(None, "fsdp")  # of 9 rows and 4 columns only the columns are even
    assert found["odd"] == found["scalar"] == P()


def test_leaves_below_the_minimum_are_replicated():
    found = specs(sharding.fsdp(make_params(), make_mesh(), minimum=12 * 32))
    assert found["in"]["kernel"] == P(None, "fsdp")
    assert found["out"]["kernel"] == found["in"]["bias"] == P()
    assert specs(sharding.fsdp(make_params(), make_mesh()))["in"]["kernel"] == P()  # 2 ** 16 by default


def test_the_first_rule_that_matches_counts_and_the_rest_is_replicated():
    rules = {"in/kernel": P(None, "tensor"), "kernel": P(("data", "tensor"), None)}
    found = specs(sharding.tensor_parallel(make_params(), make_mesh(), rules))
    assert found["in"] == {"kernel": P(None, "tensor"), "bias": P()}
    assert found["out"]["kernel"] == P(("data", "tensor"), None)
    assert found["odd"] == P()


def test_fsdp_over_tensor_parallel_splits_what_is_left_whole():
    mesh, params = make_mesh(), make_params()
    both = sharding.fsdp(params, mesh, minimum=32, over=sharding.tensor_parallel(params, mesh, RULES))
    found = specs(both)
    assert found["in"] == {"kernel": P("fsdp", "tensor"), "bias": P("fsdp")}
    assert found["out"]["kernel"] == P("tensor", "fsdp")
    shapes = jax.eval_shape(make_params)
    assert both == sharding.fsdp(shapes, mesh, minimum=32, over=sharding.tensor_parallel(shapes, mesh, RULES))


def test_masks_of_none_stay_none():
    params = {"a": None, "b": jnp.ones((4, 4))}
    assert sharding.fsdp(params, make_mesh(), minimum=0)["a"] is None
    assert sharding.tensor_parallel(params, make_mesh(), {"b": P("tensor")})["a"] is None


@pytest.mark.parametrize("kind", [AxisType.Auto, pytest.param(AxisType.Explicit, marks=pytest.mark.slow)], ids=str)
def test_a_step_on_data_fsdp_and_tensor_axes_is_that_of_one_device(kind):
    """Small whole numbers, so that sums are exact in any order."""
    mesh = make_mesh(kind)
    params = {"in": {"kernel": jnp.arange(96.0).reshape(12, 8) % 5 - 2}, "out": {"kernel": jnp.ones((8, 6))}}
    x = jnp.arange(96.0).reshape(8, 12) % 3

    def step(params, x):
        y = jt.apply_mask(params, jt.select(params, 0.5))
        return jnp.sum(x @ y["in"]["kernel"], 0), jnp.sum(y["out"]["kernel"])

    expected = jax.jit(step)(params, x)
    shardings = sharding.fsdp(params, mesh, minimum=0, over=sharding.tensor_parallel(params, mesh, RULES))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, shardings)
        rows = jax.device_put(x, sharding.batch(mesh))
        assert rows.addressable_shards[0].data.shape == (2, 12)
        assert placed["in"]["kernel"].addressable_shards[0].data.shape == (6, 4)
        found = jax.block_until_ready(jax.jit(step)(placed, rows))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_sparse_optimizer_lies_like_its_parameters():
    mesh, params = make_mesh(), make_params()
    shardings = sharding.fsdp(params, mesh, minimum=32, over=sharding.tensor_parallel(params, mesh, RULES))
    tx = jt.sparsify(optax.adam(0.1), jt.static(0.5))
    layouts = sharding.state_shardings(tx, params, shardings)
    placed = jax.device_put(params, shardings)
    masked, state = jax.jit(functools.partial(jt.init, tx), out_shardings=(shardings, layouts))(placed)
    jax.block_until_ready(masked)
    assert jt.mask_of(state)["in"]["kernel"].sharding.spec == P("fsdp", "tensor")
    assert optax.tree_utils.tree_get(state.inner, "mu")["out"]["kernel"].sharding.spec == P("tensor", "fsdp")


def test_what_does_not_fit_is_refused_by_name():
    mesh, params = make_mesh(), make_params()
    tensor = functools.partial(sharding.tensor_parallel, params, mesh)
    with pytest.raises(InputError, match=r"axis: the mesh has no axis 'rows', only \('data', 'fsdp', 'tensor'\)"):
        sharding.fsdp(params, mesh, axis="rows")
    with pytest.raises(InputError, match="minimum=-1 must not be negative"):
        sharding.fsdp(params, mesh, minimum=-1)
    with pytest.raises(InputError, match="axis='tensor' is already used by over"):
        sharding.fsdp(params, mesh, axis="tensor", minimum=0, over=tensor(RULES))
    with pytest.raises(StructureError, match="over"):
        sharding.fsdp(params, mesh, over={"in": NamedSharding(mesh, P())})
    with pytest.raises(NoMatchError, match="'mlp'"):
        tensor({"mlp": P("tensor")})
    with pytest.raises(InputError, match=r"'tensor'.* for odd, of shape .5, 7., splits 5 into 2 parts"):
        tensor({"odd": P("tensor")})
    with pytest.raises(InputError, match=r"for in/bias, of shape .32,., has more entries than the leaf has axes"):
        tensor({"in/bias": P(None, "tensor")})
    with pytest.raises(InputError, match=r"out/kernel.* the mesh has no axis 'model'"):
        tensor({"out/kernel": P("model")})
    with pytest.raises(InputError, match="names a mesh axis twice"):
        tensor({"out/kernel": P("data", "data")})
    with pytest.raises(InputError, match=r"axes=\('rows',\): the mesh has none of them"):
        sharding.batch(mesh, axes=["rows"])
