"""Memorisation and influence against float64 by hand, and of a nearest neighbour, which memorises all it is given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket.errors import InputError
from jaxticket.methods.datasets.memorisation import draw_subsets, influence, memorisation

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
INCLUDED = RNG.random((30, 12)) < 0.7
CORRECT, CORRECT_TEST = RNG.random((30, 12)) < 0.6, RNG.random((30, 5)) < 0.6


def by_hand(correct, included):
    """(examples, others): means over models, in float64."""
    pairs = [
        [(correct[included[:, i], j], correct[~included[:, i], j]) for j in range(correct.shape[1])] for i in range(12)
    ]
    return np.array([[having.mean() - lacking.mean() for having, lacking in row] for row in pairs])


def nearest_neighbour(x, y, included):
    """(models, examples) bool: is the label that of the nearest training example? An example is nearest to itself."""
    distances = jnp.abs(x[:, None] - x[None])
    of_model = lambda subset: y[jnp.argmin(jnp.where(subset[None], distances, jnp.inf), -1)] == y
    return jax.vmap(of_model)(included)


def test_float64():
    found = memorisation(jnp.asarray(CORRECT), jnp.asarray(INCLUDED))
    np.testing.assert_allclose(found, np.diag(by_hand(CORRECT, INCLUDED)), atol=1e-6)
    found = influence(jnp.asarray(CORRECT_TEST), jnp.asarray(INCLUDED))
    np.testing.assert_allclose(found, by_hand(CORRECT_TEST, INCLUDED), atol=1e-6)


@pytest.mark.slow
def test_a_random_label_is_memorised_and_nothing_else():
    """Five examples each in ten places, one of them mislabelled: it is right if it is there, and never otherwise.

    The others hardly depend on being there, since a neighbour of theirs almost always is.
    """
    x = (jnp.arange(10.0)[:, None] + jnp.array([[0, 0.01, 0.02, 0.03, 0.2]])).ravel()
    y = jnp.repeat(jnp.arange(10) % 3, 5)
    mislabelled = jnp.zeros(50, bool).at[24].set(True)  # the last of its place
    y = jnp.where(mislabelled, y + 1, y)
    included = draw_subsets(400, 50, 0.9, key=KEY)
    scores = memorisation(nearest_neighbour(x, y, included), included)
    assert float(scores[24]) == 1
    assert float(jnp.abs(jnp.where(mislabelled, 0, scores)).max()) < 0.05
    others = influence(nearest_neighbour(x, y, included), included)
    np.testing.assert_allclose(jnp.diag(others), scores, atol=2e-7)


@pytest.mark.slow
def test_subsets_have_exactly_their_size():
    included = draw_subsets(200, 11, 0.7, key=KEY)
    assert included.sum(-1).tolist() == [8] * 200  # 7.7, to the nearest
    assert draw_subsets(4, 11, 3, key=KEY).sum(-1).tolist() == [3] * 4
    assert len({row.tobytes() for row in np.asarray(included)}) > 60
    assert np.abs(np.asarray(included).mean(0) - 8 / 11).max() < 0.12  # every example is drawn as often as others


@pytest.mark.slow
def test_examples_that_all_or_no_models_had():
    correct, included = jnp.asarray(CORRECT), jnp.asarray(INCLUDED).at[:, 7].set(True).at[:, 9].set(False)
    with pytest.raises(InputError, match=r"example 7 in 30 of 30 subsets.*train more models"):
        memorisation(correct, included)
    unknown = np.isin(np.arange(12), [7, 9])
    scores = memorisation(correct, included, minimum=0)
    assert np.isnan(scores).tolist() == unknown.tolist()
    np.testing.assert_allclose(scores[~unknown], np.diag(by_hand(CORRECT, INCLUDED))[~unknown], atol=1e-6)
    assert np.isnan(influence(correct[:, :2], included, minimum=0)).all(1).tolist() == unknown.tolist()
    traced = jax.jit(memorisation)(correct, included)
    assert np.isnan(traced).tolist() == unknown.tolist()


@pytest.mark.slow
def test_a_minimum():
    having = INCLUDED.sum(0)
    scarce = np.minimum(having, 30 - having)
    assert scarce.min() < scarce.max()
    wanted = int(scarce.min()) + 1
    with pytest.raises(InputError, match=rf"example {scarce.argmin()} in .* minimum={wanted}"):
        memorisation(jnp.asarray(CORRECT), jnp.asarray(INCLUDED), minimum=wanted)
    known = jax.jit(lambda c, i: memorisation(c, i, minimum=wanted))(jnp.asarray(CORRECT), jnp.asarray(INCLUDED))
    assert np.isnan(known).tolist() == (scarce < wanted).tolist()


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("models=0 must be a whole number", lambda: draw_subsets(0, 5, key=KEY)),
        ("size=1.5 is not a fraction", lambda: draw_subsets(2, 5, 1.5, key=KEY)),
        ("key is a int", lambda: draw_subsets(2, 5, key=0)),
        (r"correct has shape \(30, 5\), but included \(30, 12\)", lambda: memorisation(CORRECT_TEST, INCLUDED)),
        ("correct_test has 29 models, but included has 30", lambda: influence(CORRECT_TEST[1:], INCLUDED)),
        ("included has dtype int", lambda: memorisation(CORRECT, INCLUDED.astype(int))),
        (r"included has shape \(12,\)", lambda: memorisation(CORRECT, INCLUDED[0])),
        ("minimum=-1 must be a whole number", lambda: influence(CORRECT_TEST, INCLUDED, minimum=-1)),
    ],
)
def test_bad_input(words, wrong):
    with pytest.raises(InputError, match=words):
        wrong()
