"""SuperTickets: golden schedules, costs, masks and dead scales, and channels that go without a trace."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxticket as jt
from jaxticket import filters, models, structure
from jaxticket.errors import InputError, NoMatchError
from jaxticket.loops import soups
from jaxticket.methods.channels.supertickets import (
    alive_scales,
    begin,
    prune,
    scale_costs,
    search_loss,
    sparsity_at,
    supertickets,
    token_cost,
)
from tests.reference.library.searches import branches
from tests.reference.published import supertickets as published

MODEL = models.supernet(blocks=1, width=4, hidden=3, sizes=(1, 3), patch=2, shape=(4, 4, 1))
PARAMS, STATE = MODEL.init(jax.random.key(0))
X = jax.random.normal(jax.random.key(1), (12, 16))
Y = jnp.arange(12) % 10
KEY = jax.random.key(0)


def evaluate(variables, x):
    return MODEL.apply(variables["params"], variables["state"], x, train=False, key=None)[0]


def new_state(params, state, x):
    return MODEL.apply(params, state, x, train=True, key=None)[1]


def train_logits(params, state):
    return MODEL.apply(params, state, X, train=True, key=None)[0]


def trace(params, state):
    return structure.trace(evaluate, {"params": params, "state": state}, X[:1])


def loss(params, state, batch, key):
    logits, state = MODEL.apply(params, state, batch[0], train=True, key=key)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean(), state


GROUPS = trace(PARAMS, STATE)
COSTS = scale_costs(PARAMS, GROUPS)
SCALE = ("blocks", "block1", "kernel3", "depthwise", "norm")


def at(tree, *path):
    for name in path:
        tree = tree[name]
    return tree


def replaced(tree, path, value):
    name, *rest = path
    return {**tree, name: replaced(tree[name], rest, value) if rest else value}


def test_the_sparsity_rises_by_a_tenth_at_the_end_of_an_interval():
    assert [sparsity_at(epoch) for epoch in (0, 23, 24, 49, 224, 249)] == [0, 0, 0.1, 0.2, 0.9, 0.9]
    assert [sparsity_at(epoch, target=0.95) for epoch in (224, 249)] == [0.9, 0.95]


def test_the_penalty_rises_by_steps():
    # 100 steps an epoch: optax's linear schedule is that of the authors.
    rho = optax.linear_schedule(0.0, 1.8e-4, 25 * 100)
    assert [float(rho(step)) for step in (0, 1250, 2500, 9999)] == pytest.approx([0, 0.9e-4, 1.8e-4, 1.8e-4])
    for step in (1, 7, 2499, 2500):
        assert float(rho(step)) == pytest.approx(published.linear_fun(step, 1.8e-4, 2500), abs=1e-10)


def test_costs_are_those_of_the_branches():
    params, groups = branches()
    costs = scale_costs(params, groups, where=filters.match("scale$"))
    np.testing.assert_allclose(costs["a"]["scale"], [[0.6] * 4], rtol=1e-6)
    np.testing.assert_allclose(costs["b"]["scale"], [[1.8] * 2], rtol=1e-6)
    assert costs["a"]["in"] is None
    assert {name: float(cost["scale"][0, 0]) for name, cost in costs.items()} == pytest.approx(published.penalties())


def test_costs_of_a_supernet_are_what_its_channels_compute():
    # 4 positions: 4 · (4 inputs + size² + 4 outputs) multiply-adds a channel.
    per_channel = {"kernel1": 4 * (8 + 1), "kernel3": 4 * (8 + 9)}
    mean = sum(per_channel.values()) / 2
    for name, macs in per_channel.items():
        np.testing.assert_allclose(
            at(COSTS, "blocks", "block1", name, "depthwise", "norm", "scale"), macs / mean, rtol=1e-6
        )
    assert len(jax.tree.leaves(COSTS)) == 2


@pytest.mark.parametrize("alive", [0, 1, 5, 8])
def test_the_cost_of_a_token_follows_how_many_live(alive):
    macs, tokens, normaliser = 50_000.0, 8, 321.0
    cost = macs / tokens / normaliser
    ours = jax.jit(lambda n: token_cost(cost, macs, tokens, n))(alive)
    assert float(ours) == pytest.approx(published.token_penalty(macs, tokens, alive, normaliser), rel=1e-5)


def test_the_mask_is_chosen_again_from_all_stored_weights():
    weights = {"kernel": jnp.array([[0.5, 0.4, 0.3, 0.2]])}
    assert prune(weights, 0.5)["kernel"].tolist() == [[True, True, False, False]]
    trained = {"kernel": jnp.array([[0.25, 0.4, 0.3, 0.2]])}
    mask = prune(trained, 0.5)
    assert mask["kernel"].tolist() == [[False, True, True, False]]
    np.testing.assert_array_equal(jt.apply_mask(trained, mask)["kernel"], jnp.array([[0, 0.4, 0.3, 0]]))


@given(st.lists(st.integers(-20, 20), min_size=9, max_size=9, unique_by=abs), st.floats(0, 1))
def test_masks_of_a_monotone_transform_are_equal(values, sparsity):
    weights = {"kernel": jnp.array([values], jnp.float32)}
    cubes = jax.tree.map(lambda w: w**3, weights)
    mask = prune(weights, sparsity)["kernel"]
    np.testing.assert_array_equal(mask, prune(cubes, sparsity)["kernel"])
    kept = round(len(values) * (1 - sparsity))
    assert int(mask.sum()) == (max(kept, 1) if sparsity < 1 else 0)


def test_all_layers_compete():
    params = {"a": {"kernel": jnp.full((2, 3), 2.0)}, "b": {"kernel": jnp.ones((3, 2))}, "c": {"bias": jnp.zeros(4)}}
    mask = prune(params, 0.5)
    assert mask["a"]["kernel"].all()
    assert not mask["b"]["kernel"].any()
    assert mask["c"]["bias"] is None


def test_a_masked_weight_has_no_gradient_and_keeps_its_value():
    search = begin(PARAMS, STATE, COSTS)._replace(mask=prune(PARAMS, 0.5))
    slope = jax.jit(jax.grad(search_loss(loss, 0.1), has_aux=True))
    slope(PARAMS, search._replace(mask=prune(PARAMS, 0.2)), (X, Y), KEY)
    gradient, after = slope(PARAMS, search, (X, Y), KEY)
    assert slope._cache_size() == 1, "a new mask does not compile again"
    masked = jax.tree.map(lambda m, g: (m, g), search.mask, gradient, is_leaf=lambda x: x is None)
    pairs = [pair for pair in jax.tree.leaves(masked, is_leaf=lambda x: type(x) is tuple) if pair[0] is not None]
    assert all((np.asarray(g)[~np.asarray(m)] == 0).all() for m, g in pairs)
    assert sum((np.asarray(g) != 0).sum() for _, g in pairs) > 0
    assert int(after.count) == 1
    np.testing.assert_allclose(after.average["output"]["kernel"], PARAMS["output"]["kernel"], rtol=1e-5)
    stepped = optax.apply_updates(PARAMS, jax.tree.map(lambda g: -0.1 * g, gradient))
    kernel, mask = stepped["output"]["kernel"], search.mask["output"]["kernel"]
    np.testing.assert_array_equal(kernel[~mask], PARAMS["output"]["kernel"][~mask])


def test_the_penalty_is_the_costs_times_the_scales():
    params = replaced(PARAMS, (*SCALE, "scale"), jnp.array([0.5, -2.0, 0.0]))
    search = begin(params, STATE, COSTS)
    plain, _ = search_loss(loss, 0.0)(params, search, (X, Y), KEY)
    penalised, _ = search_loss(loss, lambda count: 0.1 * (count + 1))(params, search, (X, Y), KEY)
    cost = [
        float(at(COSTS, "blocks", "block1", name, "depthwise", "norm", "scale")[0]) for name in ("kernel1", "kernel3")
    ]
    assert float(penalised - plain) == pytest.approx(0.1 * (3 * cost[0] + 2.5 * cost[1]), rel=1e-4)


def test_a_scale_is_dead_where_it_and_its_average_are():
    params, average = {"scale": jnp.array([2e-3, 5e-4, 5e-4])}, {"scale": jnp.array([5e-4, 2e-3, 5e-4])}
    costs = {"scale": jnp.ones(3)}
    assert alive_scales(params, average, costs)["scale"].tolist() == [True, True, False]
    assert alive_scales(params, average, costs, last=True)["scale"].tolist() == [False, True, False]
    dead = jax.tree.map(jnp.negative, {"scale": jnp.array([1e-4, 2e-4, 1e-5])})
    assert alive_scales(dead, dead, costs)["scale"].tolist() == [False, True, False], "a branch keeps one"


def shrunk(params, state):
    """The network without the channels of dead scales."""
    kept = structure.channels(alive_scales(params, params, COSTS), GROUPS)
    return (structure.shrink(tree, kept, GROUPS) for tree in (params, state))


def test_a_channel_without_scale_and_shift_leaves_no_trace():
    params = replaced(PARAMS, (*SCALE, "scale"), jnp.array([1.0, 0.0, 1.0]))
    smaller, state = shrunk(params, STATE)
    branch = smaller["blocks"]["block1"]["kernel3"]
    assert [branch[name]["conv"]["kernel"].shape[-1] for name in ("expand", "depthwise")] == [2, 2]
    assert branch["project"]["kernel"].shape == (1, 1, 2, 4)
    whole, less = ({"params": p, "state": s} for p, s in ((params, STATE), (smaller, state)))
    np.testing.assert_allclose(evaluate(less, X), evaluate(whole, X), atol=1e-6)


def test_a_dead_scale_with_a_shift_is_made_up_for_by_statistics():
    params = replaced(PARAMS, (*SCALE, "scale"), jnp.array([1.0, 0.0, 1.0]))
    params = replaced(params, (*SCALE, "bias"), jnp.array([0.0, 3.0, 0.0]))
    smaller, state = shrunk(params, STATE)
    np.testing.assert_allclose(train_logits(smaller, state), train_logits(params, STATE), atol=1e-5)
    before, after = (
        [evaluate({"params": p, "state": s}, X) for p, s in nets]
        for nets in (
            ((params, STATE), (smaller, state)),
            tuple((p, soups.recalibrate(p, s, new_state, [X])) for p, s in ((params, STATE), (smaller, state))),
        )
    )
    assert np.abs(before[0] - before[1]).max() > 1e-2, "its removal is not free"
    np.testing.assert_allclose(*after, atol=1e-5)


def searched(values, **options):
    """Search without training: the scales of a branch take these values at the ends of epochs."""
    tx = optax.adam(1e-3)

    def train(params, search, opt_state, epoch):
        own = jnp.asarray(values[epoch])[-at(params, *SCALE, "scale").size :]
        params = replaced(params, (*SCALE, "scale"), own)
        return params, search._replace(average=jax.tree.map(jnp.copy, params)), tx.init(params)

    start = begin(PARAMS, STATE, COSTS)
    options = {"epochs": len(values), "interval": 2, "every": 1, "least": 2 * 4 * 17, **options}
    return list(supertickets(train, PARAMS, start, trace, **options))


def test_channels_go_when_they_are_worth_it_and_at_the_end():
    both = searched([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    widths = [at(epoch.params, *SCALE, "scale").size for epoch in both]
    assert widths == [3, 1, 1], "one channel alone is not worth it"
    late = searched([[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    assert [at(epoch.params, *SCALE, "scale").size for epoch in late] == [3, 2]
    last = both[-1]
    shape = at(last.params, *SCALE[:-1], "conv", "kernel").shape
    for tree in (last.search.average, last.mask, last.search.mask, last.opt_state[0].mu):
        assert at(tree, *SCALE[:-1], "conv", "kernel").shape == shape == (3, 3, 1, 1)
    assert at(last.search.model, *SCALE, "mean").shape == at(last.search.costs, *SCALE, "scale").shape == (1,)
    assert last.groups.macs() == GROUPS.macs() - 2 * 4 * 17
    rarely = searched([[0.0, 0.0, 1.0]] * 3, every=2)
    assert [at(epoch.params, *SCALE, "scale").size for epoch in rarely] == [3, 1, 1]


def test_what_a_training_donates_is_no_longer_needed():
    move = jax.jit(lambda carry: jax.tree.map(lambda x: x + 1 if x.dtype == jnp.int32 else x, carry), donate_argnums=0)
    start = begin(PARAMS, STATE, COSTS)

    def train(params, search, opt_state, epoch):
        params, search = move((params, search))
        if epoch == 0:
            params = replaced(params, (*SCALE, "scale"), jnp.array([0.0, 0.0, 1.0]))
        return params, search._replace(average=jax.tree.map(jnp.copy, params)), None

    first = jax.tree.map(jnp.copy, (PARAMS, start))
    options = {"epochs": 3, "interval": 2, "every": 1, "least": 0}
    for epoch in supertickets(train, *first, trace, **options):
        assert at(epoch.mask, *SCALE[:-1], "conv", "kernel").shape == (3, 3, 1, 1)


def test_masks_are_chosen_at_the_ends_of_intervals_and_may_be_reset():
    size = sum(m.size for m in jax.tree.leaves(begin(PARAMS, STATE, COSTS).mask))
    for reset in (False, True):
        epochs = searched([[1.0, 1.0, 1.0]] * 5, reset=reset, target=0.15)
        assert [epoch.sparsity for epoch in epochs] == [0, 0.1, 0.1, 0.15, 0.15]
        kept = [sum(int(m.sum()) for m in jax.tree.leaves(epoch.mask)) for epoch in epochs]
        assert kept == [round((1 - s) * size) for s in (0, 0.1, 0.1, 0.15, 0.15)]
        used = [sum(int(m.sum()) for m in jax.tree.leaves(epoch.search.mask)) for epoch in epochs]
        assert used == ([size] * 5 if reset else kept)


@pytest.mark.parametrize(
    ("run", "error", "match"),
    [
        (lambda: sparsity_at(-1), InputError, "epoch=-1"),
        (lambda: sparsity_at(1, interval=0), InputError, "interval=0"),
        (lambda: sparsity_at(1, target=1.5), InputError, "target=1.5"),
        (lambda: prune(PARAMS, 2.0), InputError, "sparsity=2.0"),
        (lambda: search_loss(loss, 0.0, decay=1.0), InputError, r"decay=1.0"),
        (lambda: alive_scales(PARAMS, PARAMS, COSTS, threshold=-1.0), InputError, "threshold=-1.0"),
        (lambda: token_cost(1.0, 0.0, 8, 8), InputError, "macs=0.0"),
        (lambda: token_cost(1.0, 1.0, 0, 8), InputError, "tokens=0"),
        (lambda: scale_costs(PARAMS, GROUPS, where=filters.match("nothing")), NoMatchError, "nothing"),
        (lambda: scale_costs(PARAMS, GROUPS, where=filters.match("output/bias")), InputError, "params/output/bias"),
        (lambda: searched([], epochs=0), InputError, "epochs=0"),
        (lambda: searched([], epochs=1, every=0), InputError, "every=0"),
        (lambda: searched([], epochs=1, least=-1.0), InputError, "least=-1.0"),
        (lambda: searched([], epochs=1, interval=0), InputError, "interval=0"),
        (lambda: searched([], epochs=1, threshold=-1.0), InputError, "threshold=-1.0"),
        (lambda: searched([], epochs=1, target=2.0), InputError, "target=2.0"),
    ],
)
def test_bad_input(run, error, match):
    with pytest.raises(error, match=match):
        run()
