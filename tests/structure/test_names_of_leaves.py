"""Leaves whose names end alike: each array of a state is cut like its own parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import structure


def layer(n_in, n_out):
    return {"kernel": jnp.ones((n_in, n_out)), "bias": jnp.ones(n_out)}


def dense(v, x):
    return x @ v["kernel"] + v["bias"][None]


# Names as linen gives them: a block's first layer is called like the network's.
VARIABLES = {
    "params": {"Dense_0": layer(7, 5), "Block_0": {"Dense_0": layer(5, 6), "Dense_1": layer(6, 4)}, "bias": jnp.ones(4)}
}


def apply(v, x):
    v = v["params"]
    x = dense(v["Block_0"]["Dense_1"], jax.nn.relu(dense(v["Block_0"]["Dense_0"], dense(v["Dense_0"], x))))
    return x + v["bias"][None]


parts = pytest.mark.parametrize("part", [lambda v: v, lambda v: v["params"]], ids=["variables", "params"])


@parts
def test_masks_belong_to_their_parameters(part):
    groups = structure.trace(apply, VARIABLES, jnp.ones((3, 7)))
    kept = {group.name: np.arange(group.width) > 0 for group in groups}
    back = structure.channels(structure.spread(kept, groups, part(VARIABLES)), groups)
    assert back.keys() == kept.keys()
    for name, channels in kept.items():
        np.testing.assert_array_equal(back[name], channels)


@parts
def test_moments_are_cut_like_their_parameters(part):
    groups = structure.trace(apply, VARIABLES, jnp.ones((3, 7)))
    kept = {group.name: jnp.arange(group.width) > 0 for group in groups}
    smaller = structure.shrink(VARIABLES, kept, groups)
    shapes = jax.tree.map(jnp.shape, smaller)["params"]
    assert (shapes["Dense_0"]["bias"], shapes["Block_0"]["Dense_0"]["bias"], shapes["bias"]) == ((4,), (5,), (4,))
    state = structure.shrink(optax.adam(1e-3).init(part(VARIABLES)), kept, groups)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, optax.adam(1e-3).init(part(smaller)))


LIKE_A_STATE = {"mu": {"w": jnp.ones((4, 6))}, "w": jnp.ones((6, 5)), "v": jnp.ones((5, 2))}
LABELS = {"mu": {"w": "other"}, "w": "some", "v": "some"}


@pytest.mark.parametrize(
    "tx",
    [
        optax.adam(1e-3),
        optax.chain(optax.clip(1.0), optax.sgd(1e-3, momentum=0.9)),
        optax.multi_transform({"some": optax.adam(1e-3), "other": optax.sgd(1e-3)}, LABELS),
        optax.multi_transform({"some": optax.adam(1e-3), "other": optax.sgd(1e-3)}, {**LABELS, "mu": "other"}),
    ],
    ids=["adam", "sgd", "some", "some of a part"],
)
def test_parameters_called_like_fields_of_a_state_are_not_taken_for_them(tx):
    """'mu/w' is the moment of 'w', and 'mu/mu/w' that of 'mu/w'."""
    variables = {"params": LIKE_A_STATE}
    apply = lambda v, x: x @ v["params"]["mu"]["w"] @ v["params"]["w"] @ v["params"]["v"]
    groups = structure.trace(apply, variables, jnp.ones((3, 4)))
    kept = {group.name: jnp.arange(group.width) > 1 for group in groups}
    smaller = structure.shrink(variables, kept, groups)
    state = structure.shrink(tx.init(LIKE_A_STATE), kept, groups)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, tx.init(smaller["params"]))
