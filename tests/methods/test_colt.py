"""COLT: one mask for all copies, between one cut and as many as there are copies, and IMP with one copy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from jaxticket import filters, loops, tickets, training
from jaxticket.errors import InputError
from jaxticket.methods.tickets.colt import colt, full_ticket, partition, partition_train
from jaxticket.tickets import Ticket
from jaxticket.typing import Trained

KEY = jax.random.key(0)
TRUNK = filters.match("^trunk")


def init(key, classes=3):
    first, second = jax.random.split(key)
    trunk = {"kernel": jax.random.normal(first, (20, 30)), "bias": jnp.zeros(30)}
    return {"trunk": trunk, "head": {"kernel": jax.random.normal(second, (30, classes))}}, None


def ticket():
    params, _ = init(KEY)
    only_kernels = lambda p: jax.tree.map(lambda a, b: a and b, TRUNK(p), filters.weights()(p))
    return Ticket(params, filters.full_mask(params, only_kernels), 4)


@jax.jit
def moved(params, mask, keys):
    """Stands in for training: other random steps for each copy."""

    def one(params, mask, key):
        noise = jax.tree.map(lambda p: jax.random.normal(jax.random.fold_in(key, p.size), p.shape), params)
        return jt.apply_mask(jax.tree.map(jnp.add, params, noise), mask)

    return jax.vmap(one)(params, mask, keys)


class Train:
    def __init__(self):
        self.starts = []

    def __call__(self, params, state, mask, key, *, step, opt_state):
        self.starts.append((jax.tree.map(np.array, params), step))
        keys = jax.random.split(key, mask["trunk"]["kernel"].shape[0])
        return Trained(moved(params, mask, keys), state, {})


def equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b))
    )


def kernel(level):
    return np.asarray(level.ticket.mask["trunk"]["kernel"])


def search(partitions, rounds=5, train=None, **options):
    return list(colt(train or Train(), ticket(), partitions=partitions, rounds=rounds, key=KEY, **options))


@functools.cache
def of_two():
    """A search with two partitions, and what its training began with."""
    train = Train()
    return search(2, train=train), train.starts


def test_one_partition_is_iterative_pruning_to_the_bit():
    found = search(1, rounds=3)
    lift = lambda tree: jax.tree.map(lambda x: x[None], tree)

    def alone(params, state, mask, key, **options):
        trained = Train()(lift(params), state, lift(mask), key, **options)
        return trained._replace(params=jax.tree.map(lambda x: x[0], trained.params))

    densities = [level.density for level in found]
    assert densities == pytest.approx([0.85**r for r in range(3)], abs=2 / 600)
    plain = loops.imp(alone, ticket(), densities=densities, prune=loops.prune_by(), key=KEY)
    for level, expected in zip(found, plain, strict=True):
        assert equal(level.ticket.mask, lift(expected.ticket.mask))
        assert equal(level.trained.params, lift(expected.trained.params))


def test_the_density_lies_between_one_cut_and_two():
    found, _ = of_two()
    for level in found:
        mask = kernel(level)
        assert all(np.array_equal(mask[0], other) for other in mask)
        assert level.density == pytest.approx(mask[0].mean())
        assert level.ticket.mask["head"]["kernel"] is None
    for high, low in itertools.pairwise(found):
        assert not np.any(kernel(low) & ~kernel(high))
        # The last can only be where what the copies prune is disjoint.
        assert 0.85 * high.density > low.density >= (1 - 2 * 0.15) * high.density - 2 / 600
        # Random steps agree by chance: (1 − q)², and somewhat more for the weights that they share at first.
        assert low.density / high.density > 0.85**2 - 0.03


def test_what_is_kept_is_what_every_copy_keeps():
    (first, second, *_), _ = of_two()
    target = round(0.85 * 600) / 600
    each = [
        loops.prune_by()(jax.tree.map(lambda p: p[i], first.trained.params), ticket().mask, target, key=KEY)
        for i in (0, 1)
    ]
    np.testing.assert_array_equal(kernel(second)[0], each[0]["trunk"]["kernel"] & each[1]["trunk"]["kernel"])


def test_every_round_starts_from_the_first_weights():
    found, starts = of_two()
    theta0 = ticket().params
    for level, (start, step) in zip(found, starts, strict=True):
        assert step == 4
        for copy in range(2):
            mask = kernel(level)[copy]
            np.testing.assert_array_equal(start["trunk"]["kernel"][copy], np.where(mask, theta0["trunk"]["kernel"], 0))
            np.testing.assert_array_equal(start["head"]["kernel"][copy], theta0["head"]["kernel"])


@pytest.mark.slow
def test_it_resumes(tmp_path):
    unbroken, _ = of_two()
    next(colt(Train(), ticket(), partitions=2, rounds=3, key=KEY, store=tickets.Store(tmp_path)))
    train = Train()
    resumed = search(2, rounds=3, train=train, store=tickets.Store(tmp_path))
    assert len(train.starts) == 2
    assert all(equal(a, b) for a, b in zip(unbroken[:3], resumed, strict=True))


def test_the_ticket_for_all_classes():
    level = of_two()[0][-1]
    whole = full_ticket(level, lambda key: init(key, 6), key=jax.random.key(9), redraw=filters.match("^head/."))
    assert equal(whole.params["trunk"], ticket().params["trunk"])
    assert whole.params["head"]["kernel"].shape == (30, 6)
    np.testing.assert_array_equal(whole.mask["trunk"]["kernel"], kernel(level)[0])
    assert whole.mask["head"]["kernel"] is None
    assert whole.step == 4


def test_partitions_are_of_classes_and_labels_start_at_zero():
    y = np.array([5, 0, 1, 4, 2, 3, 3, 0])
    x, labels = partition(10 * y, y, partitions=3, classes=6)
    np.testing.assert_array_equal(x, [[0, 10], [20, 30], [50, 40]])
    np.testing.assert_array_equal(labels, [[0, 1], [0, 1], [1, 0]])


@pytest.mark.slow
def test_copies_train_together_as_they_do_apart():
    x = jax.random.normal(KEY, (40, 20))
    data = partition(x, np.arange(40) % 6, partitions=2, classes=6)

    def loss(params, state, batch, key):
        logits = batch[0] @ params["trunk"]["kernel"] @ params["head"]["kernel"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean(), state

    options = {"learning_rate": optax.constant_schedule(0.01), "batch_size": 6, "optimizer": optax.sgd}
    recipe = lambda data: training.Recipe(loss=loss, data=data, **options)
    train = partition_train(recipe, data, steps=6)
    level = next(colt(train, ticket(), partitions=2, rounds=1, key=KEY))
    keys = jax.random.split(loops.level_keys(0, key=KEY)[0], 2)
    start = ticket()

    @jax.jit
    def alone(own, params, key):
        return training.scan_train(recipe(own), steps=6)(params, None, start.mask, key, step=4, opt_state=None)

    for copy in range(2):
        expected = alone(jax.tree.map(lambda d: d[copy], data), start.params, keys[copy])
        kernels = level.trained.params["trunk"]["kernel"][copy], expected.params["trunk"]["kernel"]
        np.testing.assert_allclose(*kernels, atol=1e-5)
        assert level.trained.metrics["loss"][copy] == pytest.approx(float(expected.metrics["loss"]), rel=1e-4)


def test_bad_input():
    y = np.arange(6)
    for words, call in (
        ("partitions=0", lambda: colt(Train(), ticket(), partitions=0, rounds=1, key=KEY)),
        ("rate=1", lambda: colt(Train(), ticket(), partitions=2, rounds=2, rate=1, key=KEY)),
        (
            "None everywhere",
            lambda: colt(Train(), Ticket({"w": jnp.ones(1)}, {"w": None}), partitions=2, rounds=1, key=KEY),
        ),
        ("partitions=4 must divide the 6", lambda: partition(y, y, partitions=4, classes=6)),
        ("between 0 and 2", lambda: partition(y, y, partitions=3, classes=3)),
        ("no example for one of the 2 parts", lambda: partition(y, y, partitions=2, classes=12)),
    ):
        with pytest.raises(InputError, match=words):
            call()
