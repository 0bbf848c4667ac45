"""Training on subsets: batches of one shape, one program for all, each example once an epoch, and what is watched."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from jaxticket import data_pruning, tickets, training
from jaxticket.errors import InputError
from tests import classifier

EXAMPLES, BATCH = 50, 8
KEY = jax.random.key(0)
logits, loss = classifier.logits, classifier.loss_of(classifier.logits)


def data():
    return classifier.examples(EXAMPLES, 5, noise=0.8)


def recipe(**others):
    rate = optax.piecewise_constant_schedule(0.5, {20: 0.1})
    return training.Recipe(**{"loss": loss, "data": data(), "learning_rate": rate, "batch_size": BATCH, **others})


def begin():
    return {"kernel": jnp.zeros((5, 3)), "bias": jnp.zeros(3)}, {"kernel": None, "bias": None}


observe = training.observer(
    logits, labels=lambda examples: examples[1], measures={"entropy": lambda z, y: -jnp.sum(jax.nn.softmax(z) * z, -1)}
)


def tracked(**others):
    params, mask = begin()
    state = data_pruning.Tracked(None, data_pruning.init(EXAMPLES, ("entropy",)))
    return {"params": params, "state": state, "mask": mask, "key": KEY, "opt_state": None, "step": 0, **others}


@functools.cache
def watched_fit():
    return training.fit(recipe(), observe=observe)


def test_an_epoch_covers_each_example_of_the_subset_once():
    for size in (1, 8, 9, 50):
        subset = data_pruning.random_subset(EXAMPLES, size, key=jax.random.key(size))
        for epoch in (0, size):
            rows = np.asarray(training.epoch_rows(recipe(), subset, epoch, key=KEY))
            assert len(rows) == 56
            assert sorted(rows[:size]) == np.flatnonzero(subset).tolist()
            assert (rows[size:] == EXAMPLES).all()
        steps = -(-size // BATCH)
        fitted = watched_fit()(subset=subset, **tracked(), steps=2 * steps)
        assert (np.asarray(data_pruning.statistics_of(fitted.state).seen) == 2 * np.asarray(subset)).all()


def test_epochs_have_different_orders_and_all_examples_the_order_of_the_recipe():
    everything = jnp.ones(EXAMPLES, bool)
    first, second = (training.epoch_rows(recipe(), everything, epoch, key=KEY)[:EXAMPLES] for epoch in (0, 1))
    assert (first != second).any()
    assert (first == recipe().order(0, key=KEY)).all()


def test_the_last_batch_is_filled_with_examples_of_the_subset():
    """Copies of one example would spoil the batch statistics of normalising layers."""
    subset = data_pruning.random_subset(EXAMPLES, 13, key=KEY)
    params, mask = begin()

    def keeping_rows(params, state, batch, key):
        return loss(params, None, batch, key)[0], batch.index

    fit = training.fit(recipe(loss=keeping_rows))
    rows = fit(params, jnp.zeros(BATCH, int), mask, KEY, step=0, steps=2, subset=subset).state
    assert len(np.unique(rows)) == BATCH
    assert subset[rows].all()


def test_padding_trains_nothing_and_the_last_batch_counts_what_is_real():
    """Against a loop in numpy, in which a batch has only what is real."""
    subset = data_pruning.random_subset(EXAMPLES, 13, key=KEY)
    params, mask = begin()
    fitted = training.fit(recipe(optimizer=optax.sgd))(
        params, None, mask, KEY, step=0, steps=8, subset=subset, stretch=5.0
    )
    x, y = (np.asarray(part, np.float64) for part in data())
    kernel, bias = np.zeros((5, 3)), np.zeros(3)
    for step in range(8):
        order = np.asarray(training.epoch_rows(recipe(), subset, step // 2, key=KEY))
        rows = [row for row in order[step % 2 * BATCH :][:BATCH] if row < EXAMPLES]
        scores = x[rows] @ kernel + bias
        p = np.exp(scores - scores.max(1, keepdims=True))
        error = (p / p.sum(1, keepdims=True) - np.eye(3)[y[rows].astype(int)]) / len(rows)
        rate = 0.5 if 5 * step < 20 else 0.05  # the schedule falls at its step 20
        kernel, bias = kernel - rate * x[rows].T @ error, bias - rate * error.sum(0)
    np.testing.assert_allclose(fitted.params["kernel"], kernel, atol=1e-5)
    np.testing.assert_allclose(fitted.params["bias"], bias, atol=1e-5)


def test_no_subset_compiles_anew():
    count = 0

    def counted(*arguments):
        nonlocal count
        count += 1
        return loss(*arguments)

    fit = training.fit(recipe(loss=counted))
    params, mask = begin()
    for size in (3, 17, 50):
        subset = data_pruning.random_subset(EXAMPLES, size, key=KEY)
        fit(params, None, mask, KEY, step=0, steps=4, subset=subset, stretch=50 / size)
    assert count == 1


def test_forgetting_is_that_of_predictions_before_each_step():
    """Replayed by hand: the batch's predictions with the weights that it then changes."""
    subset = data_pruning.random_subset(EXAMPLES, 20, key=KEY)
    fitted = watched_fit()(subset=subset, **tracked(), steps=12)
    one = functools.partial(training.fit(recipe()), subset=subset)
    params, mask = begin()
    history = {row: [] for row in np.flatnonzero(subset).tolist()}
    opt_state = None
    for step in range(12):
        rows = np.asarray(training.epoch_rows(recipe(), subset, step // 3, key=KEY))[step % 3 * BATCH :][:BATCH]
        found = np.asarray(data()[0] @ params["kernel"] + params["bias"][None]).argmax(1)
        for row in rows[rows < EXAMPLES].tolist():
            history[row].append(bool(found[row] == data()[1][row]))
        params, _, opt_state, _ = one(params, None, mask, KEY, step=step, steps=1, opt_state=opt_state)
    statistics = data_pruning.statistics_of(fitted.state)
    forgotten = {row: sum(a and not b for a, b in itertools.pairwise(h)) for row, h in history.items()}
    wanted = [forgotten[r] if any(history[r]) else 200_000 for r in history]
    assert data_pruning.forgetting(statistics)[subset].tolist() == wanted
    assert sum(0 < events < 200_000 for events in wanted) > 0  # something was forgotten
    assert (data_pruning.forgetting(statistics)[~subset] == -1).all()


@pytest.mark.parametrize("each", ["vmap", pytest.param("map", marks=pytest.mark.slow)])
def test_replicates_side_by_side_are_those_trained_alone(each):
    subsets = jnp.stack([data_pruning.random_subset(EXAMPLES, 20, key=jax.random.key(i)) for i in range(2)])
    stacked = tracked()
    for name in ("params", "state"):
        stacked[name] = jax.tree.map(lambda x: jnp.stack([x] * 2), stacked[name])
    placement = training.Placement(tuple(jax.devices()[: 2 if each == "map" else 1]), each, "")
    fit = training.fit(recipe(), observe=observe, placement=placement)
    together = fit(**{**stacked, "key": jnp.stack([KEY] * 2)}, steps=6, subset=subsets)
    for index, subset in enumerate(subsets):
        alone = watched_fit()(subset=subset, **tracked(), steps=6)
        found = jax.tree.map(lambda x, i=index: x[i], together.state.statistics)
        np.testing.assert_array_equal(found.forgotten, alone.state.statistics.forgotten)
        np.testing.assert_array_equal(found.seen, alone.state.statistics.seen)
        np.testing.assert_allclose(together.params["kernel"][index], alone.params["kernel"], atol=1e-5)


@pytest.mark.breadth
def test_step_by_step_and_on_a_mesh_it_is_the_same():
    subset = data_pruning.random_subset(EXAMPLES, 30, key=KEY)
    wanted = watched_fit()(subset=subset, **tracked(), steps=8)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    in_turn = training.Placement((jax.devices()[0],), "sequence", "")
    for fit in (
        training.fit(recipe(), observe=observe, placement=in_turn),
        training.fit(recipe(mesh=mesh), observe=observe),
    ):
        found = fit(**tracked(), steps=8, subset=subset)
        np.testing.assert_allclose(found.params["kernel"], wanted.params["kernel"], atol=1e-5)
        for name in ("seen", "correct", "forgotten", "first_learned"):
            np.testing.assert_array_equal(getattr(found.state.statistics, name), getattr(wanted.state.statistics, name))
        np.testing.assert_allclose(
            data_pruning.means(found.state.statistics, "entropy"),
            data_pruning.means(wanted.state.statistics, "entropy"),
            atol=1e-5,
        )


@pytest.mark.slow
def test_gradients_of_each_example_are_watched_inside_the_step():
    """GraNd of the weights that each step begins with; of a linear model the last-layer one is exact as well."""

    def alone(params, example):
        x, y = example
        return optax.softmax_cross_entropy_with_integer_labels(x @ params["kernel"] + params["bias"], y)

    def observe(params, state, batch, key):
        found, _ = logits(params, state, batch, key)
        x, y = batch.examples
        return {
            "correct": found.argmax(-1) == y,
            "grand": data_pruning.grand(params, alone, batch.examples, batch_size=BATCH),
            "last_layer": data_pruning.grand_last_layer(x, found, y),
        }

    state = data_pruning.Tracked(None, data_pruning.init(EXAMPLES, ("grand", "last_layer")))
    subset = data_pruning.random_subset(EXAMPLES, 20, key=KEY)
    fitted = training.fit(recipe(), observe=observe)(**tracked(state=state), steps=9, subset=subset)
    exact, last = (data_pruning.means(fitted.state.statistics, name)[subset] for name in ("grand", "last_layer"))
    np.testing.assert_allclose(exact, last, rtol=1e-4)
    assert len({round(float(value), 5) for value in exact}) == 20


def test_what_is_interrupted_goes_on_to_the_same_statistics(tmp_path):
    subset = data_pruning.random_subset(EXAMPLES, 20, key=KEY)
    whole = watched_fit()(subset=subset, **tracked(), steps=9)

    def stop(step, _):
        if step == 6:
            raise KeyboardInterrupt

    checkpoint = tickets.StepCheckpoint(tmp_path, every=0)
    fit = training.fit(recipe(), observe=observe, checkpoint=checkpoint, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        fit(**tracked(), steps=9, subset=subset)
    seen = []
    again = training.fit(recipe(), observe=observe, checkpoint=checkpoint, progress=lambda step, _: seen.append(step))
    other = data_pruning.random_subset(EXAMPLES, 20, key=jax.random.key(1))
    found = again(**tracked(), steps=9, subset=subset)
    assert seen == [9]
    jax.tree.map(np.testing.assert_array_equal, found.state, whole.state)
    seen.clear()
    again(**tracked(), steps=9, subset=other)
    assert seen[0] == 3  # the checkpoint of another subset is not its own


@pytest.mark.parametrize(
    ("subset", "words"),
    [
        (jnp.zeros(EXAMPLES, bool), "at least one"),
        (jnp.ones(EXAMPLES - 1, bool), "shape"),
        (jnp.ones((2, EXAMPLES), bool), "shape"),
        (jnp.ones(EXAMPLES), "bool"),
        ([True] * EXAMPLES, "not an array"),
    ],
)
def test_a_subset_that_does_not_fit(subset, words):
    with pytest.raises(InputError, match=words):
        watched_fit()(**tracked(), steps=1, subset=subset)


def test_a_reduction_in_parts_is_refused():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    with pytest.raises(InputError, match="reduction"):
        training.fit(dataclasses.replace(recipe(), mesh=mesh, reduction="fixed"), observe=observe)
    fit, (params, mask) = training.fit(dataclasses.replace(recipe(), mesh=mesh, reduction="fixed")), begin()
    with pytest.raises(InputError, match="reduction"):
        fit(params, None, mask, KEY, step=0, steps=1, subset=jnp.ones(EXAMPLES, bool))


def test_replicates_need_subsets_of_one_size():
    placement = training.Placement((jax.devices()[0],), "vmap", "")
    fit = training.fit(recipe(), placement=placement)
    subsets = jnp.stack([jnp.ones(EXAMPLES, bool), jnp.arange(EXAMPLES) < 3])
    with pytest.raises(InputError, match="as many"):
        fit(*begin(), None, KEY, step=0, steps=1, subset=subsets)
