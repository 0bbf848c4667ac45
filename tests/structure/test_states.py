"""Optimizer states that shrink with their parameters: the next update is the masked one on what stays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import structure
from jaxticket.errors import InputError
from tests.structure import _removal
from tests.structure.test_removal import X, mlp, mlp_params

PARAMS = mlp_params()
GROUPS = structure.trace(mlp, PARAMS, X)
TARGET = jax.random.normal(jax.random.key(5), (7, 3))
LABELS = {"a": "first", "b": "rest", "c": "rest"}
OPTIMIZERS = {
    "adamw": optax.adamw(1e-2, weight_decay=0.1),
    "sgd": optax.sgd(optax.cosine_decay_schedule(0.1, 20), momentum=0.9, nesterov=True),
    "ema": optax.chain(optax.adam(1e-2), optax.ema(0.9)),
    "lion": optax.lion(1e-3),
    "partition": optax.partition({"first": optax.adam(1e-2), "rest": optax.sgd(0.1, momentum=0.9)}, LABELS),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.rmsprop(1e-3)),
    "inject": optax.inject_hyperparams(optax.adam)(learning_rate=1e-2),
    "muon": optax.contrib.muon(1e-2),
}


def gradient(apply, params):
    return jax.grad(lambda p: jnp.mean((apply(p, X) - TARGET) ** 2))(params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_next_update_is_the_masked_one(name):
    tx = OPTIMIZERS[name]
    kept = _removal.draw(GROUPS, 6)
    mask = structure.spread(kept, GROUPS, PARAMS)
    plan = jt.sparsify(tx, jt.static(1.0, where=jt.filters.everything()), mask=mask)
    params, state = jt.init(plan, PARAMS)

    @jax.jit
    def step(params, state):
        updates, state = plan.update(gradient(mlp, params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(5):
        params, state = step(params, state)
    smaller, inner = (structure.shrink(tree, kept, GROUPS) for tree in (params, state.inner))
    assert jax.tree.structure(inner) == jax.tree.structure(state.inner)
    run = structure.replay(mlp, kept, GROUPS)
    updates, _ = jax.jit(tx.update)(gradient(run, smaller), inner, smaller)
    expected = structure.shrink(step(params, state)[0], kept, GROUPS)
    moved = jax.tree.map(jnp.subtract, expected, smaller)
    if name == "muon":  # a matrix with zero rows has the orthogonal factor of the smaller one; its length is by shape
        moved, updates = (jax.tree.map(lambda x: x / jnp.linalg.norm(x), tree) for tree in (moved, updates))
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(updates), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6 if name != "muon" else 1e-4)


def test_the_state_of_sparsify_and_its_mask_shrink_too():
    kept = {"a/kernel:1": np.arange(8) > 2}
    tx = jt.sparsify(optax.adam(1e-2), jt.static(0.5))
    _, state = jt.init(tx, PARAMS)
    smaller = structure.shrink(state, kept, GROUPS)
    assert smaller.mask["a"]["kernel"].shape == (5, 5)
    assert smaller.inner[0].nu["b"]["kernel"].shape == (5, 6)
    again = structure.expand(smaller, kept, GROUPS)
    assert jax.tree.map(jnp.shape, again) == jax.tree.map(jnp.shape, state)


def test_factored_moments_are_refused_by_name():
    params = {"a": {"kernel": jnp.ones((256, 256))}, "b": {"kernel": jnp.ones((256, 3))}}
    apply = lambda p, x: x @ p["a"]["kernel"] @ p["b"]["kernel"]
    groups = structure.trace(apply, params, jnp.ones((1, 256)))
    state = optax.adafactor(1e-2).init(params)
    with pytest.raises(InputError, match=r"v_row/a/kernel of shape \(256,\) is not laid out like a/kernel"):
        structure.shrink(state, {"a/kernel:1": np.arange(256) > 2}, groups)


def test_names_without_a_trunk_are_matched():
    variables = {"params": PARAMS, "stats": {"count": jnp.zeros(())}}
    groups = structure.trace(lambda v, x: mlp(v["params"], x), variables, X)
    kept = {"params/a/kernel:1": np.arange(8) > 2}
    moments = structure.shrink(optax.adam(1e-2).init(PARAMS), kept, groups)[0].mu
    assert moments["a"]["kernel"].shape == (5, 5)
    assert structure.shrink({"coefficients": jnp.ones(7)}, kept, groups)["coefficients"].shape == (7,)


@pytest.mark.parametrize(
    ("tx", "match"), [(optax.flatten(optax.adam(1e-2)), "in a row"), (optax.sm3(1e-2), "a part of")]
)
def test_states_of_another_layout_are_refused(tx, match):
    kept = {"a/kernel:1": np.arange(8) > 2}
    with pytest.raises(InputError, match=match):
        structure.shrink(tx.init(PARAMS), kept, GROUPS)
