"""Names of leaves: a layer called `value` has one, whatever container holds it."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxticket as jt
from jaxticket import _tree, allocate, filters, tickets

MATRIX = jnp.arange(4.0).reshape(2, 2)


class Projections(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2, name="query")(x) + nn.Dense(2, name="value")(x)


class Held(eqx.Module):
    key: jax.Array
    value: jax.Array


def linen():
    return Projections().init(jax.random.key(0), jnp.ones((1, 2)))["params"]


def boxed():
    return {"value": {"kernel": nn.LogicallyPartitioned(MATRIX, ("in", "out"))}}


def attention():
    return nnx.state(nnx.MultiHeadAttention(2, 4, rngs=nnx.Rngs(0), decode=False), nnx.Param)


CONTAINERS = {
    "dict": ({"key": MATRIX, "value": MATRIX}, {"key", "value"}),
    "nested dict": ({"head": {"value": MATRIX}}, {"head/value"}),
    "equinox": ({"attention": Held(MATRIX, MATRIX)}, {"attention/key", "attention/value"}),
    "linen": (linen(), {f"{layer}/{leaf}" for layer in ("query", "value") for leaf in ("kernel", "bias")}),
    "linen boxed": (boxed(), {"value/kernel"}),
    "nnx": (attention(), {f"{n}/{leaf}" for n in ("key", "out", "query", "value") for leaf in ("kernel", "bias")}),
    "keys with marks": ({"a/b": {"c.d": MATRIX}, "list": [MATRIX]}, {"a/b/c.d", "list/0"}),
    "integer keys": ({0: MATRIX, 1: {2: MATRIX}}, {"0", "1/2"}),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_leaf_has_the_name_of_its_place(container):
    tree, names = CONTAINERS[container]
    assert set(_tree.leaves(_tree.names(tree))) == names


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_goes_by_name_reaches_each_leaf(container):
    tree, names = CONTAINERS[container]
    for name in names:
        exact = f"^{name}$"
        assert sum(jax.tree.leaves(filters.match(exact)(tree))) == 1
        chosen = filters.match(exact)(tree)
        densities = allocate.rules(tree, {exact: 0.5}, where=filters.match(exact))
        assert [d for d in jax.tree.leaves(densities) if d is not None] == [0.5]
        assert jt.filters.only(tree, chosen) is not None


@pytest.mark.parametrize("container", ["dict", "nested dict", "linen", "keys with marks", "integer keys"])
def test_names_stay_exact_through_a_file(container, tmp_path):
    tree, names = CONTAINERS[container]
    mask = filters.full_mask(tree, filters.everything())
    tickets.save(tmp_path / "ticket", jt.Ticket(tree, mask))
    read = tickets.load(tmp_path / "ticket")
    assert set(_tree.leaves(_tree.names(read.params))) == names
    assert jax.tree.structure(read.params) == jax.tree.structure(tree)
