"""Errors about structures name the first place that differs, in a line, however large the trees are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxticket as jt
from jaxticket import _tree
from jaxticket.errors import StructureError


class Pair(NamedTuple):
    a: int
    b: int


LARGE = {f"layer{i}": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)} for i in range(500)}


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        ({"a": 1, "b": {"c": 1}}, {"a": 1, "b": {"d": 1}}, "only x has 'b/c'"),
        ({"a": 1}, {"a": 1, "b": 1}, "only y has 'b'"),
        ({"a": Pair(1, 2)}, {"a": {"a": 1, "b": 2}}, "at 'a' x has a Pair, and y a dict"),
        ((1, 2), [1, 2], "at '' x has a tuple, and y a list"),
        ({"a": {}, "b": 1}, {"a": (), "b": 1}, "at 'a' x has a dict, and y a tuple"),
        ({"a": {"b": 1}}, {"a": 1}, "only x has 'a/b'"),
    ],
)
def test_the_first_place_is_named(a, b, text):
    assert _tree.describe_difference(a, b, "x", "y") == text


def test_large_trees_give_short_errors():
    smaller = {name: layer for name, layer in LARGE.items() if name != "layer77"}
    mask = jax.tree.map(lambda p: jnp.ones_like(p, bool), smaller)
    with pytest.raises(StructureError, match="only params has 'layer77/bias'") as caught:
        jt.apply_mask(LARGE, mask)
    assert len(str(caught.value)) < 400


def test_gradients_of_another_tree_are_named():
    tx = jt.sparsify(optax.sgd(0.1), jt.static(0.5))
    params, state = jt.init(tx, {"a": jnp.ones((2, 2)), "w": {"kernel": jnp.ones((2, 2))}})
    with pytest.raises(StructureError, match="only params has 'a'"):
        tx.update({"w": {"kernel": jnp.ones((2, 2))}}, state, params)
