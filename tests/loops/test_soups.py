"""Sparse model soups: averages under one mask, batch statistics, members in one program, and a search that resumes."""

import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxticket as jt
from jaxticket import loops, masks, tickets, training
from jaxticket.errors import CheckpointError, InputError, StructureError
from jaxticket.loops import soups
from jaxticket.tickets import Ticket, rewinds
from jaxticket.typing import Trained

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "loops.json").read_text())
KEY = jax.random.key(0)
MASK = {"w": jnp.arange(12).reshape(3, 4) % 3 > 0, "b": None}


def members(count, seed=0):
    rng = np.random.default_rng(seed)
    w = jnp.asarray(rng.normal(size=(count, 3, 4)), jnp.float32)
    return {"w": jnp.where(MASK["w"][None], w, 0), "b": jnp.asarray(rng.normal(size=(count, 4)), jnp.float32)}


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b))
    )


@pytest.mark.parametrize("case", GOLDEN["phases"])
def test_phases_golden(case):
    found = soups.phases(case["density"], case["count"])
    np.testing.assert_allclose(1 - np.array(found), case["sparsities"], atol=1e-6)
    assert found[-1] == case["density"]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@settings(max_examples=8)
@given(seed=st.integers(0, 2**31), count=st.sampled_from([1, 3]))
def test_a_soup_of_equals_is_the_identity_to_the_bit(dtype, seed, count):
    """Where Σ w · x would round: a third of x, three times, is not x."""
    x = jax.random.normal(jax.random.key(seed), (5,)).astype(dtype)
    weights = np.random.default_rng(seed).dirichlet(np.ones(count)).astype(np.float32)
    for w in (None, weights):
        np.testing.assert_array_equal(soups.average(jnp.repeat(x[None], count, 0), w), x)


@settings(max_examples=8)
@given(seed=st.integers(0, 2**31))
def test_the_average_is_that_of_float64(seed):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(3))
    tree = members(3, seed)
    for name, x in soups.average(tree, jnp.asarray(weights, jnp.float32)).items():
        expected = np.einsum("m...,m->...", np.asarray(tree[name], np.float64), weights)
        np.testing.assert_allclose(x, expected, atol=1e-6)


def test_members_of_weight_zero_count_in_nothing():
    diverged = jnp.array([[jnp.nan, jnp.inf], [1.0, 2.0], [3.0, 6.0]])
    np.testing.assert_array_equal(soups.average(diverged, jnp.array([0.0, 0.5, 0.5])), [2.0, 4.0])
    np.testing.assert_array_equal(soups.average(diverged, jnp.array([0.0, 0.0, 1.0])), [3.0, 6.0])
    assert soups.average({"count": jnp.array([3, 3])})["count"] == 3


def test_a_soup_is_no_denser_than_its_mask():
    tree = members(3)
    tree["w"] += 1e-3  # members that did not keep to it
    mixed = soups.soup(tree, MASK)
    assert int(jnp.sum(mixed["w"] != 0)) <= int(masks.nnz(mixed, MASK)) == 8
    np.testing.assert_allclose(mixed["b"], tree["b"].mean(0), rtol=1e-6)
    stacked = jax.tree.map(lambda m: jnp.repeat(m[None], 3, 0), MASK)
    assert equal(soups.soup(tree, stacked), mixed)


def test_members_of_different_masks_are_refused():
    stacked = {"w": jnp.array([[True, True, False, False], [False, False, True, True]]), "b": None}
    with pytest.raises(InputError, match=r"masks at 'w' differ between members.*2\.00 times as many"):
        soups.soup({"w": jnp.ones((2, 4)), "b": jnp.ones((2, 1))}, stacked)
    with pytest.raises(InputError, match="no known values under jit"):
        jax.jit(soups.shared_mask)(stacked)


@pytest.mark.parametrize("weights", [[0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0]])
def test_weights_must_be_convex(weights):
    with pytest.raises(InputError, match="not convex"):
        soups.average(jnp.ones((2, 3)), jnp.array(weights))


def test_members_must_be_stacked():
    with pytest.raises(StructureError, match="2 members"):
        soups.average(jnp.ones((2, 3)), jnp.ones(3) / 3)
    with pytest.raises(StructureError, match="leading axes"):
        soups.average({"a": jnp.ones((2, 3)), "b": jnp.ones((3, 3))})


def trained_members():
    return Trained({"w": jnp.array([[1.0], [2.0], [4.0]])}, None, {})


@pytest.mark.parametrize(
    ("evaluate", "weights"),
    [
        (lambda params, _: 0.5, [1 / 3, 1 / 3, 1 / 3]),  # equals are all accepted
        (lambda params, _: -jnp.abs(params["w"][0] - 4), [0, 0, 1]),  # each other one makes it worse
        (lambda params, _: -jnp.abs(params["w"][0] - 2.9), [0, 0.5, 0.5]),  # 2 comes first, 4 joins, 1 does not
    ],
)
def test_greedy(evaluate, weights):
    found = soups.greedy(evaluate)(trained_members(), {"w": jnp.array([True])})
    np.testing.assert_allclose(found.weights, weights)
    np.testing.assert_allclose(found.params["w"], [np.dot(weights, [1, 2, 4])], rtol=1e-6)


def test_greedy_ranks_members_by_their_recalibrated_selves():
    """A and B score 0.5 and 0.6 by their own statistics, 0.9 and 0.6 recalibrated, their mixture 0.7: A stays alone."""
    trained = Trained({"w": jnp.array([[0.0], [1.0]])}, {"mean": jnp.zeros((2, 1))}, {})
    recalibrated = lambda params, averaged: {"mean": jnp.ones(1)}

    def evaluate(params, state):
        own, new = {0.0: 0.5, 1.0: 0.6}, {0.0: 0.9, 1.0: 0.6, 0.5: 0.7}
        return (new if float(state["mean"][0]) else own)[float(params["w"][0])]

    found = soups.greedy(evaluate, state=recalibrated)(trained, {"w": jnp.array([True])})
    assert found.weights == [1, 0]


def moving(momentum):
    """Batch statistics of x · params, as a network in train mode keeps them, beside a count that is no statistic."""

    def apply(params, state, x):
        x = x * params
        mix = lambda old, new: momentum * old + (1 - momentum) * new
        new = {"mean": mix(state["mean"], x.mean(0)), "var": mix(state["var"], x.var(0))}
        return {**new, "count": state["count"] + 1, "temperature": state["temperature"]}

    return apply


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_recalibration_is_the_mean_over_batches_whatever_the_momentum(momentum):
    rng = np.random.default_rng(0)
    scale = np.array([1e-3, 1.0, 1e4], np.float32)
    batches = [jnp.asarray(scale * rng.normal(loc=3, size=(16, 3)), jnp.float32) for _ in range(4)]
    state = {"mean": jnp.full(3, 7.0), "var": jnp.full(3, 7.0), "count": jnp.int32(5), "temperature": jnp.float32(2)}
    found = soups.recalibrate(jnp.float32(2), state, moving(momentum), batches)
    for name, statistic in (("mean", np.mean), ("var", np.var)):
        expected = np.mean([statistic(2 * np.asarray(x, np.float64), 0) for x in batches], 0)
        np.testing.assert_allclose(found[name], expected, rtol=2e-6 / (1 - momentum))
    assert found["count"] == 5
    assert found["temperature"] == 2


def test_recalibration_has_nothing_to_do_without_statistics():
    assert soups.recalibrate(None, None, None, []) is None
    with pytest.raises(InputError, match="batches is empty"):
        soups.recalibrate(jnp.float32(1), {"mean": jnp.zeros(3)}, moving(0.9), [])


def test_an_ensemble_votes_with_probabilities():
    logits = jnp.log(jnp.array([[[0.9, 0.1]], [[0.3, 0.7]]]))
    np.testing.assert_allclose(soups.ensemble(logits), [[0.6, 0.4]], rtol=1e-6)


X = jax.random.normal(jax.random.key(1), (48, 3))
Y = X @ jax.random.normal(jax.random.key(2), (3, 4))


def loss(params, state, batch, key):
    x, y = batch
    return jnp.mean((x @ params["w"] + params["b"][None] - y) ** 2), state


RECIPE = training.Recipe(
    loss=loss, data=(X, Y), learning_rate=optax.linear_schedule(0.1, 0.0, 12), batch_size=8, optimizer=optax.sgd
)
PLACEMENT = training.Placement(tuple(jax.devices()[:1]), "vmap", "")


@functools.cache
def varied():
    return soups.vary(RECIPE, learning_rates=(1.0, 0.5), weight_decays=(0.0, 0.1), lengths=(1.0, 0.5))


@functools.cache
def fit():
    return training.fit(varied().recipe, placement=PLACEMENT)


@functools.cache
def plain():
    return training.fit(RECIPE)


def at_once(**options):
    return soups.at_once(fit(), members=2, steps=12, fresh=varied().fresh, **options)


def dense():
    return Ticket({"w": jax.random.normal(KEY, (3, 4)), "b": jnp.zeros(4)}, jax.tree.map(jnp.ones_like, MASK))


def train(members, ticket=None, key=KEY):
    ticket = ticket or dense()
    return members(jt.rewind(ticket), None, ticket.mask, key, step=0, opt_state=None)


def test_members_in_one_program_are_members_one_after_the_other():
    """The rate, the decay and the length of each: what an optimizer made for that member alone would do."""

    schedule = lambda count: 0.5 * optax.linear_schedule(0.1, 0.0, 6)(count)
    optimizer = lambda rate: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(rate))
    other = training.fit(dataclasses.replace(RECIPE, learning_rate=schedule, optimizer=optimizer))
    ticket = dataclasses.replace(dense(), mask=MASK)
    together = train(at_once(evaluate=lambda params, state: {"norm": float(jnp.sum(params["w"] ** 2))}), ticket)
    apart = train(soups.in_turn([training.train_fn(plain(), steps=12), training.train_fn(other, steps=6)]), ticket)
    for name in ("w", "b"):
        np.testing.assert_allclose(together.params[name], apart.params[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(together.metrics["norm"], jnp.sum(apart.params["w"] ** 2, (1, 2)), rtol=1e-4)
    assert together.metrics["loss"][0] == pytest.approx(apart.metrics["loss"][0], rel=1e-4)
    assert not np.any(np.asarray(together.params["w"])[:, ~np.asarray(MASK["w"])])
    assert len({float(w[0, 1]) for w in together.params["w"]}) == 2


def test_the_search(tmp_path):
    """Exact densities, nested masks, each phase from the last soup, and resumed without training anything again."""
    densities = soups.phases(0.25, 2)
    search = lambda members, **options: soups.search(members, dense(), densities=densities, key=KEY, **options)
    store, measure = tickets.Store(tmp_path), lambda members, soup: {"seen": len(members.params["w"])}
    unbroken = list(search(at_once(), measure=measure))
    assert [int(masks.nnz(level.trained.params, level.ticket.mask)) for level in unbroken] == [6, 3]
    first, second = (np.asarray(level.ticket.mask["w"]) for level in unbroken)
    assert not np.any(second & ~first)
    assert equal(unbroken[1].ticket.params, unbroken[0].trained.params)
    assert np.count_nonzero(unbroken[1].trained.params["w"]) <= 3
    metrics = unbroken[0].trained.metrics
    assert metrics["seen"] == len(metrics["members"]["loss"]) == 2
    assert metrics["weights"] == [0.5, 0.5]
    next(search(at_once(), measure=measure, store=store))
    calls = []
    counted = lambda *args, **options: (calls.append(1), at_once()(*args, **options))[1]
    resumed = list(search(counted, measure=measure, store=store))
    assert len(calls) == 1
    for a, b in zip(unbroken, resumed, strict=True):
        assert equal((a.ticket, a.trained.params), (b.ticket, b.trained.params))
        assert a.trained.metrics == b.trained.metrics
    with pytest.raises(CheckpointError, match="another ticket or key"):
        list(soups.search(at_once(), dense(), densities=(0.5,), key=jax.random.key(1), store=store))


@pytest.mark.slow
def test_a_soup_of_one_member_is_pruning_and_retraining():
    one = training.train_fn(plain(), steps=12)
    mixed = list(soups.search(soups.in_turn([one]), dense(), densities=(0.5, 0.25), key=KEY))
    # The member's key is drawn from the level's.
    keyed = lambda p, s, m, key, **options: one(p, s, m, jax.random.split(key, 1)[0], **options)
    retrained = loops.imp(
        keyed, dense(), densities=(0.5, 0.25), prune=loops.prune_by(), rewind=rewinds.learning_rate(), key=KEY
    )
    for a, b in zip(mixed, retrained, strict=True):
        assert equal(a.trained.params, b.trained.params)


def test_bad_input():
    for words, call in (
        ("density=1.0 must lie between", lambda: soups.phases(1.0, 3)),
        ("count=0 must be", lambda: soups.phases(0.5, 0)),
        ("members=0", lambda: soups.at_once(fit(), members=0, steps=1)),
        ("trains is empty", lambda: soups.in_turn([])),
        (r"are for \[1, 2\] members", lambda: soups.vary(RECIPE, learning_rates=(1,), lengths=(1, 1))),
        (r"are for \[\] members", lambda: soups.vary(RECIPE)),
        ("must not be negative", lambda: soups.vary(RECIPE, weight_decays=(0.1, -0.1))),
        ("parts of the training", lambda: soups.vary(RECIPE, lengths=(1.0, 0.0))),
    ):
        with pytest.raises(InputError, match=words):
            call()
