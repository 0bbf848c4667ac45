"""LT-SFT: the entries that are chosen, rounds, and weights that stay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxticket import filters
from jaxticket.errors import InputError
from jaxticket.masks import apply_mask
from jaxticket.methods.finetune.lt_sft import l1_from, lt_sft, tune_only

DELTA = jnp.array([0.3, -0.5, 0.1, 0.2, -0.05])


def jump(params, mask):
    """Training that reaches its target in a step, where it may."""
    return {"w": jnp.where(mask["w"], DELTA, params["w"])}


def test_the_entries_that_change_most_are_tuned():
    params, mask = lt_sft({"w": jnp.zeros(5)}, jump, 2)
    assert mask["w"].tolist() == [True, True, False, False, False]
    np.testing.assert_allclose(params["w"], [0.3, -0.5, 0, 0, 0])


def test_rounds_add_entries_and_go_on_from_the_sparse_result():
    starts = []

    def train(params, mask):
        starts.append(params["w"].tolist())
        return jump(params, mask)

    _, mask = lt_sft({"w": jnp.zeros(5)}, train, 2, rounds=2)
    assert mask["w"].tolist() == [True, True, False, False, False]
    sparse = jnp.where(jnp.arange(5) == 1, DELTA, 0).tolist()
    assert starts == [[0.0] * 5, [0.0] * 5, sparse, sparse]
    _, fewer = lt_sft({"w": jnp.zeros(5)}, jump, 5, rounds=2)
    assert int(fewer["w"].sum()) == 4


def test_leaves_outside_where_have_no_mask():
    params = {"kernel": jnp.zeros((2, 2)), "head": jnp.zeros(2)}
    move = {"kernel": jnp.array([[1.0, 4], [3, 2]]), "head": jnp.ones(2)}

    def train(params, mask):
        return jax.tree.map(
            lambda p, m, d: d if m is None else jnp.where(m, d, p), params, mask, move, is_leaf=lambda x: x is None
        )

    tuned, mask = lt_sft(params, train, 2, where=~filters.match("head"))
    assert mask["head"] is None
    assert tuned["head"].tolist() == [1, 1]
    assert tuned["kernel"].tolist() == [[0, 4], [3, 0]]


def test_a_decay_of_weights_moves_nothing_outside_the_mask():
    base = {"w": jnp.arange(1.0, 6.0)}

    def train(params, mask):
        tx = tune_only(optax.adamw(0.1, weight_decay=0.5), mask)
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(jax.tree.map(jnp.square, params), state, params)
            params = optax.apply_updates(params, updates)
        return params

    params, mask = lt_sft(base, train, 2)
    assert (params["w"] == base["w"])[~mask["w"]].all()
    assert (params["w"] != base["w"])[mask["w"]].all()


def test_l1():
    base = {"w": jnp.zeros(3), "b": jnp.ones(1)}
    assert float(l1_from(base, {"w": jnp.array([1.0, -2, 0]), "b": jnp.zeros(1)})) == pytest.approx(1.0)


def test_gradients_outside_the_mask_are_not_seen_by_the_optimizer():
    """Clipping by the norm of all gradients would shrink the step of those inside."""
    mask = {"w": jnp.array([True, False])}
    tx = tune_only(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0)), mask)
    grads = {"w": jnp.array([1.0, 100.0])}
    assert tx.update(grads, tx.init(grads), grads)[0]["w"].tolist() == [-1, 0]
    assert apply_mask(grads, mask)["w"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("count", "rounds", "message"), [(0, 1, "count=0"), (6, 1, "count=6 must"), (1, 2, "count=1 must")]
)
def test_bad_counts(count, rounds, message):
    with pytest.raises(InputError, match=message):
        lt_sft({"w": jnp.zeros(5)}, jump, count, rounds=rounds)
