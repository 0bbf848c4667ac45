"""Statistics of examples: the counts of the papers, whatever the order of a batch or where the arrays are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxticket import data_pruning
from jaxticket.errors import InputError


def after(history, examples=1, at=0):
    """The statistics of an example that was right or wrong so."""
    statistics = data_pruning.init(examples)
    for right in history:
        statistics = data_pruning.update(statistics, jnp.array([at]), {"correct": jnp.array([bool(right)])})
    return statistics


@pytest.mark.parametrize(
    ("history", "events"),
    [
        ([1, 0, 1, 0, 1], 2),
        ([0, 0, 0], 200_000),
        ([0, 1, 1], 0),
        ([0, 1, 0], 1),
        ([0, 0, 1, 0, 0, 1, 0], 2),
        ([0, 1, 0, 1, 1, 0], 2),
        ([1, 1, 1], 0),
    ],
)
def test_forgetting_events_of_the_papers(history, events):
    statistics = after(history, examples=3, at=1)
    assert data_pruning.forgetting(statistics).tolist() == [-1, events, -1]
    first = history.index(1) if 1 in history else -1
    assert statistics.first_learned.tolist() == [-1, first, -1]
    assert (int(statistics.seen[1]), int(statistics.correct[1])) == (len(history), sum(history))


def test_forgetting_over_runs_counts_a_run_that_never_learned_by_its_presentations():
    """Toneva's rule: an example that one of three runs never got right is easier than one forgotten in each."""
    first = [[0] * 7, [1] * 7, [1] * 7]
    second = [[1, 0, 1, 0, 1, 0, 1]] * 3

    def run(*histories):
        statistics = data_pruning.init(3)
        for rights in zip(*histories, strict=True):
            correct = jnp.array(rights, bool)
            statistics = data_pruning.update(statistics, jnp.arange(2), {"correct": correct})
        return statistics

    runs = [run(a, b) for a, b in zip(first, second, strict=True)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    assert np.sum([data_pruning.forgetting(r)[:2] for r in runs], 0).tolist() == [200_000, 9]  # a sentinel in a sum
    assert data_pruning.forgetting_over_runs(stacked).tolist() == [7, 9, -1]
    with pytest.raises(InputError, match="runs"):
        data_pruning.forgetting_over_runs(runs[0])


EXAMPLES, BATCH, EPOCHS = 12, 4, 5
step = jax.jit(data_pruning.update)


def watched(right, values, orders, place=lambda x: x):
    """Statistics of epochs in these orders, of examples that are right as (epochs, examples) says."""
    statistics = place(data_pruning.init(EXAMPLES, ("el2n",)))
    for epoch, order in enumerate(orders):
        for at in range(0, EXAMPLES, BATCH):
            rows = jnp.asarray(order[at : at + BATCH])
            observed = {"correct": jnp.asarray(right[epoch])[rows], "el2n": jnp.asarray(values[epoch])[rows]}
            statistics = step(statistics, rows, observed)
    return statistics


def drawn(seed):
    rng = np.random.default_rng(seed)
    right, values = rng.random((EPOCHS, EXAMPLES)) < 0.5, rng.random((EPOCHS, EXAMPLES), np.float32)
    return right, values, rng


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_examples_in_an_epoch_does_not_matter(seed):
    right, values, rng = drawn(seed)
    one, other = (
        watched(right, values, [rng.permutation(EXAMPLES) for _ in range(EPOCHS)])._asdict() for _ in range(2)
    )
    per_epoch = EXAMPLES // BATCH
    # The step in which an example was learned is one of the same epoch.
    np.testing.assert_array_equal(one.pop("first_learned") // per_epoch, other.pop("first_learned") // per_epoch)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    changes = np.sum(right[:-1] & ~right[1:], 0)
    np.testing.assert_array_equal(one["forgotten"], changes)


def test_where_the_arrays_are_does_not_matter():
    right, values, rng = drawn(0)
    orders = [rng.permutation(EXAMPLES) for _ in range(EPOCHS)]
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))

    def place(statistics):
        split = lambda x: NamedSharding(mesh, PartitionSpec("data") if x.ndim else PartitionSpec())
        return jax.tree.map(lambda x: jax.device_put(x, split(x)), statistics)

    alone, sharded = watched(right, values, orders), watched(right, values, orders, place)
    jax.tree.map(np.testing.assert_array_equal, alone, sharded)


def test_replicates_batch():
    several = jax.vmap(lambda right: data_pruning.update(data_pruning.init(2), jnp.array([0]), {"correct": right}))(
        jnp.array([[True], [False]])
    )
    assert jax.vmap(data_pruning.forgetting)(several).tolist() == [[0, -1], [200_000, -1]]


def test_rows_that_only_fill_the_batch_leave_no_trace():
    statistics = data_pruning.init(3, ("el2n",))
    observed = {"correct": jnp.ones(3, bool), "el2n": jnp.ones(3)}
    real = jnp.array([True, False, False])
    found = data_pruning.update(statistics, jnp.array([1, 2, 2]), observed, real=real)
    assert found.seen.tolist() == [0, 1, 0]
    assert found.first_learned.tolist() == [-1, 0, -1]
    assert data_pruning.means(found, "el2n").tolist() == [-1, 1, -1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: data_pruning.init(0), "examples=0"),
        (lambda: data_pruning.init(3, "el2n"), "measures='el2n'"),
        (lambda: data_pruning.init(3, ("correct",)), "measures"),
        (lambda: data_pruning.means(data_pruning.init(3), "el2n"), "not observed"),
        (
            lambda: data_pruning.update(
                data_pruning.init(3, ("el2n",)), jnp.array([0]), {"correct": jnp.array([True])}
            ),
            "el2n",
        ),
        (lambda: data_pruning.update(data_pruning.init(3), jnp.array([0, 1]), {"correct": jnp.array([True])}), "shape"),
        (lambda: data_pruning.update(data_pruning.init(3), jnp.array([0.0]), {"correct": jnp.array([True])}), "index"),
        (lambda: data_pruning.statistics_of(None), "observe="),
    ],
)
def test_what_is_wrong_is_named(call, words):
    with pytest.raises(InputError, match=words):
        call()
