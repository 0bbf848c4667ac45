"""The order of an epoch: every example once, as if drawn at random."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket.training._shuffle import shuffle
from tests.tiers import sample

DRAWS = 6_000


def _many(n: int, seed: int = 0) -> np.ndarray:
    """[DRAWS, n]: a permutation a row."""
    keys = jax.random.split(jax.random.key(seed), DRAWS)
    return np.asarray(jax.jit(jax.vmap(lambda key: shuffle(key, n)))(keys))


def _excess(counts: np.ndarray) -> float:
    """How far a chi-square statistic of counts that should be equal lies above its mean, in standard deviations."""
    expected = counts.mean()
    statistic, freedom = ((counts - expected) ** 2 / expected).sum(), counts.size - 1
    return float((statistic - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("n", sample([1, 2, 3, 4, 5, 8, 9, 127, 128, 129, 60_000], [1, 2, 5, 129, 60_000]))
def test_every_example_once(n):
    order = shuffle(jax.random.key(n), n)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_small_orders_are_equally_likely(n):
    names = {order: i for i, order in enumerate(itertools.permutations(range(n)))}
    drawn = [names[tuple(row)] for row in _many(n).tolist()]
    assert _excess(np.bincount(drawn, minlength=len(names))) < 5


@pytest.mark.parametrize("n", [37, 64, 100])
def test_places_and_neighbours_are_as_in_random_orders(n):
    orders = _many(n)
    places = np.stack([np.bincount(orders[:, i], minlength=n) for i in range(n)])
    assert _excess(places) < 5
    steps = np.bincount(((orders[:, 1:] - orders[:, :-1]) % n).ravel(), minlength=n)[1:]
    assert _excess(steps) < 5
    pairs = np.zeros((n, n))  # which examples share a batch of two
    np.add.at(pairs, (orders[:, 0], orders[:, 1]), 1)
    assert _excess(pairs[~np.eye(n, dtype=bool)]) < 5
    fixed = (orders == np.arange(n)).sum(1)
    assert abs(fixed.mean() - 1) < 5 / np.sqrt(DRAWS)
