"""Subsets: which examples, how many, of which classes; and files of them that fit no other data."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxticket import data_pruning, masks
from jaxticket.errors import CheckpointError, InputError

SCORES = jnp.array([0.3, 0.9, 0.5, 0.7, 0.9, 0.1])


def rows(subset):
    return np.flatnonzero(np.asarray(subset)).tolist()


def test_hardest_easiest_middle():
    assert rows(data_pruning.hardest(SCORES, 3)) == [1, 3, 4]
    assert rows(data_pruning.hardest(SCORES, 1)) == [1]  # of equal scores the first
    assert rows(data_pruning.easiest(SCORES, 2)) == [0, 5]
    assert rows(data_pruning.middle(SCORES, 2)) == [2, 3]
    assert rows(data_pruning.middle(SCORES, 2, skip=2)) == [2, 3]
    assert rows(data_pruning.middle(SCORES, 2, skip=0)) == [1, 4]
    assert rows(data_pruning.hardest(SCORES, 0.5)) == rows(data_pruning.hardest(SCORES, 3))
    assert rows(data_pruning.hardest(SCORES, 1.0)) == [0, 1, 2, 3, 4, 5]
    assert rows(data_pruning.hardest(jnp.array([-1, 200_000, 3]), 1)) == [1]


def test_hardest_and_easiest_part_the_examples():
    hard, easy = data_pruning.hardest(SCORES, 2), data_pruning.easiest(SCORES, 4)
    assert not masks.intersection(hard, easy).any()
    assert masks.union(hard, easy).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.0), st.sampled_from([0.25, 0.5, 1.0]))
def test_classes_keep_their_floor_and_the_size_is_exact(seed, fraction, balance):
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size=40, p=[0.7, 0.1, 0.1, 0.1])
    scores = jnp.asarray(rng.random(40) + 10 * (labels == 0))  # the largest class is the hardest
    size = max(1, round(fraction * 40))
    subset = np.asarray(data_pruning.hardest(scores, fraction, labels=jnp.asarray(labels), balance=balance))
    assert subset.sum() == size
    for label in set(labels.tolist()):
        mine = labels == label
        kept, floor = (subset & mine).sum(), int(balance * size * mine.sum() / 40)
        assert kept >= floor
        # Of a class the hardest are kept.
        assert set(np.flatnonzero(subset & mine)) == set(
            np.flatnonzero(mine)[np.argsort(-scores[mine])][:kept].tolist()
        )


def test_without_balance_the_scores_decide_alone():
    labels = jnp.array([0, 0, 0, 1, 1, 1])
    scores = jnp.array([9.0, 8.0, 7.0, 1.0, 2.0, 3.0])
    assert rows(data_pruning.hardest(scores, 3)) == [0, 1, 2]
    assert rows(data_pruning.hardest(scores, 4, labels=labels, balance=1.0)) == [0, 1, 4, 5]


def test_a_class_that_is_mostly_skipped_keeps_what_is_left():
    labels = jnp.array([0, 0, 0, 0, 1, 1, 1, 1])
    scores = jnp.array([9.0, 8.0, 7.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert rows(data_pruning.middle(scores, 4, skip=3)) == [4, 5, 6, 7]
    assert rows(data_pruning.middle(scores, 4, skip=3, labels=labels, balance=1.0)) == [3, 5, 6, 7]


def test_random_subsets_are_of_the_size_and_uniform():
    keys = jax.random.split(jax.random.key(0), 300)
    kept = jnp.stack([data_pruning.random_subset(8, 2, key=key) for key in keys])
    assert (kept.sum(1) == 2).all()
    assert (abs(kept.mean(0) - 0.25) < 0.1).all()


X = (jnp.arange(12.0).reshape(6, 2), jnp.arange(6))


def test_a_file_gives_back_the_subset_and_where_it_came_from(tmp_path):
    subset = data_pruning.hardest(SCORES, 3)
    data_pruning.save_subset(tmp_path / "a.json", subset, data=X, provenance={"score": "el2n", "seeds": [0, 1]})
    found, provenance = data_pruning.load_subset(tmp_path / "a.json", data=X)
    assert (found == subset).all()
    assert found.dtype == bool
    assert provenance == {"score": "el2n", "seeds": [0, 1]}


def test_a_file_of_other_data_is_refused(tmp_path):
    """A test example among the training ones changes the fingerprint: its rows cannot slip in."""
    data_pruning.save_subset(tmp_path / "a.json", data_pruning.hardest(SCORES, 3), data=X, provenance={})
    planted = (X[0].at[2].set(99.0), X[1])
    with pytest.raises(CheckpointError, match="other training examples"):
        data_pruning.load_subset(tmp_path / "a.json", data=planted)
    with pytest.raises(CheckpointError, match="other training examples"):
        data_pruning.load_subset(tmp_path / "a.json", data=jax.tree.map(lambda x: x[::-1], X))
    found = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**found, "examples": 7}))
    with pytest.raises(CheckpointError, match="other training examples"):
        data_pruning.load_subset(tmp_path / "a.json", data=X)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": [1, 1]},
        {"rows": [3, 1]},
        {"rows": [0, 6]},
        {"rows": [-1]},
        {"rows": [0.5]},
        {"rows": [True]},
        {"rows": "1"},
        {"version": 2},
        {"examples": "6"},
        {"provenance": 3},
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change):
    file = tmp_path / "a.json"
    data_pruning.save_subset(file, data_pruning.hardest(SCORES, 3), data=X, provenance={})
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CheckpointError, match="is not a readable subset"):
        data_pruning.load_subset(file, data=X)
    file.write_text("{")
    with pytest.raises(CheckpointError, match="is not a readable subset"):
        data_pruning.load_subset(file, data=X)
    with pytest.raises(CheckpointError, match="is not a readable subset"):
        data_pruning.load_subset(tmp_path / "none.json", data=X)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: data_pruning.hardest(SCORES, 0), "size=0"),
        (lambda: data_pruning.hardest(SCORES, 7), "size=7"),
        (lambda: data_pruning.hardest(SCORES, 0.0), "size=0.0"),
        (lambda: data_pruning.hardest(SCORES, 1.5), "size=1.5"),
        (lambda: data_pruning.hardest(SCORES, float("nan")), "size=nan"),
        (lambda: data_pruning.hardest(SCORES, "half"), "size='half'"),
        (lambda: data_pruning.hardest(SCORES.at[2].set(jnp.inf), 2), r"scores\[2\]"),
        (lambda: data_pruning.hardest(SCORES[None], 2), "shape"),
        (lambda: data_pruning.hardest([1.0, 2.0], 1), "not an array"),
        (lambda: data_pruning.hardest(SCORES, 2, balance=0.5), "labels"),
        (lambda: data_pruning.hardest(SCORES, 2, balance=2.0, labels=jnp.arange(6)), "balance"),
        (lambda: data_pruning.hardest(SCORES, 2, balance=0.5, labels=jnp.arange(5)), "labels"),
        (lambda: data_pruning.easiest("scores", 2), "scores"),
        (lambda: data_pruning.middle(SCORES, 4, skip=3), "skip=3"),
        (lambda: data_pruning.random_subset(0, 1, key=jax.random.key(0)), "examples=0"),
        (lambda: data_pruning.random_subset(5, 1, key="key"), "key"),
        (lambda: data_pruning.save_subset("a", jnp.ones(5, bool), data=X, provenance={}), "5 examples"),
        (lambda: data_pruning.save_subset("a", jnp.ones(6, bool), data=X, provenance={"x": object()}), "provenance"),
        (lambda: data_pruning.save_subset("a", jnp.ones(6), data=X, provenance={}), "bool"),
    ],
)
def test_what_is_wrong_is_named(call, words):
    with pytest.raises(InputError, match=words):
        call()
