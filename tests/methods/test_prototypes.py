"""Prototypes: k-means against scikit-learn's and against its promises, and distances that only angles change."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxticket.errors import InputError
from jaxticket.methods.datasets import prototypes

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
CENTRES = 10 * RNG.normal(size=(4, 3))
X = jnp.asarray(np.repeat(CENTRES, 10, 0) + RNG.normal(size=(40, 3)), jnp.float32)
LABELS = jnp.repeat(jnp.arange(4), 10)


@pytest.mark.slow
def test_planted_clusters_are_found():
    clusters = prototypes.kmeans(X, 4, key=KEY)
    found = np.asarray(clusters.members).reshape(4, 10)
    assert sorted(found[:, 0]) == [0, 1, 2, 3]
    assert np.all(found == found[:, :1])
    x = np.asarray(X, np.float64).reshape(4, 10, 3)
    means = x.mean(1)
    np.testing.assert_allclose(clusters.centroids[found[:, 0]], means, rtol=1e-5)
    assert float(clusters.inertia) == pytest.approx(np.sum((x - means[:, None]) ** 2), rel=1e-5)


def test_distances_by_hand():
    x = jnp.array([[3.0, 4.0], [-3.0, -4.0], [4.0, -3.0], [0.0, 0.0], [3e-9, 4e-9], [1.0, 0.0]])
    found = prototypes.prototype_distance(x, jnp.array([[6.0, 8.0], [1.0, 1.0]]), jnp.array([0, 0, 0, 0, 0, 1]))
    np.testing.assert_allclose(found, [0, 2, 1, 0.5, 0, 1 - np.sqrt(0.5)], rtol=1e-6, atol=1e-12)


@pytest.mark.slow
def test_distances_that_a_product_would_round_to_zero():
    near = jnp.array([[1.0, 1e-4], [1.0, 1e-5]])
    far, nearer = prototypes.prototype_distance(near, jnp.array([[1.0, 0.0]]), jnp.array([0, 0]))
    assert float(far) == pytest.approx(5e-9, rel=1e-3)
    assert float(nearer) == pytest.approx(5e-11, rel=1e-3)


@pytest.mark.slow
def test_the_odd_one_of_a_class_is_the_hardest():
    x = X.at[3].set(-5 * X[3])
    scores = prototypes.supervised(x, LABELS, classes=5)  # one class without an example
    assert int(scores.argmax()) == 3
    unit = np.asarray(x, np.float64) / np.linalg.norm(np.asarray(x, np.float64), axis=1, keepdims=True)
    means = unit.reshape(4, 10, 3).mean(1)
    means = np.repeat(means / np.linalg.norm(means, axis=1, keepdims=True), 10, 0)
    np.testing.assert_allclose(scores, 1 - np.sum(unit * means, 1), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_lengths_do_not_matter():
    """To the bit, by powers of two: clusters, and so the ranking, are of directions."""
    factors = jnp.exp2(jnp.asarray(RNG.integers(-9, 9, (40, 1)), jnp.float32))
    scores = prototypes.self_supervised(X, 3, key=KEY)
    np.testing.assert_array_equal(prototypes.self_supervised(factors * X, 3, key=KEY), scores)
    assert len(np.unique(scores)) > 30


@pytest.mark.slow
def test_an_empty_cluster_moves_to_the_farthest_example():
    x = jnp.array([[0.0], [1.0], [2.0], [100.0], [103.0]])
    far = prototypes.lloyd(x, jnp.array([[1.0], [-500.0], [-900.0]]), steps=1)
    assert far.centroids.ravel().tolist() == [41.2000007629394531, 103, 100]  # the mean, the farthest and the next
    assert prototypes.lloyd(x, jnp.array([[1.0], [-500.0], [-900.0]])).members.tolist() == [0, 0, 0, 2, 1]


@pytest.mark.slow
def test_as_many_clusters_as_examples():
    clusters = prototypes.kmeans(X, 40, key=KEY)
    assert float(clusters.inertia) == 0
    assert sorted(clusters.members.tolist()) == list(range(40))


@pytest.mark.slow
def test_as_many_clusters_as_examples_that_repeat():
    """Fewer places than clusters: each has one, and the search for an empty cluster's place ends."""
    clusters = prototypes.kmeans(jnp.repeat(X[:5], 8, 0), 40, key=KEY, steps=1000)
    assert float(clusters.inertia) < 1e-10  # means of eight equal numbers are rounded
    assert len(set(clusters.members.tolist())) == 5


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3, 7])
def test_scikit_learn(k):
    """From the same first centroids: the same clusters, centroids and inertia."""
    cluster = pytest.importorskip("sklearn.cluster")
    x = RNG.normal(size=(200, 5)).astype(np.float32)
    theirs = cluster.KMeans(k, init=x[:k], n_init=1, tol=0, algorithm="lloyd").fit(x)
    ours = prototypes.lloyd(jnp.asarray(x), jnp.asarray(x[:k]), steps=300)
    np.testing.assert_array_equal(ours.members, theirs.labels_)
    np.testing.assert_allclose(ours.centroids, theirs.cluster_centers_, atol=1e-5)
    assert float(ours.inertia) == pytest.approx(theirs.inertia_, rel=1e-5)


@pytest.mark.slow
def test_first_centroids_are_spread():
    """k-means++ finds planted clusters that uniform draws miss, and from other keys it draws others."""
    x = jnp.asarray(np.concatenate([RNG.normal(size=(60, 3)), np.repeat(100 * CENTRES, 3, 0)]), jnp.float32)
    keys = jax.random.split(KEY, 20)
    drawn = jax.jit(jax.vmap(lambda key: prototypes.kmeans(x, 5, key=key).inertia))(keys)
    uniform = lambda key: prototypes.lloyd(x, jax.random.choice(key, x, (5,), replace=False)).inertia
    missed = np.array([drawn, jax.jit(jax.vmap(uniform))(keys)]) > 1e4
    assert not missed[0].any()
    assert missed[1].mean() > 0.5
    assert len({prototypes.kmeans(x, 5, key=key, steps=0).centroids.tobytes() for key in keys[:9]}) == 9


@pytest.mark.slow
@settings(max_examples=60)
@given(seed=st.integers(0, 2**30), k=st.integers(1, 12), spread=st.sampled_from([0, 1, 100]))
def test_the_inertia_never_rises(seed, k, spread):
    """Also where first centroids have no example, and where examples repeat. To the rounding of a sum in float32."""
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(24, 3)).round(rng.integers(0, 3)), jnp.float32)
    first = jnp.asarray(spread * rng.normal(size=(k, 3)), jnp.float32)
    inertias = [float(prototypes.lloyd(x, first, steps=steps).inertia) for steps in range(8)]
    assert all(after <= before * (1 + 1e-5) + 1e-9 for before, after in itertools.pairwise(inertias))


@pytest.mark.slow
def test_one_program_for_all_keys_and_numbers_of_steps():
    before = prototypes._lloyd._cache_size(), prototypes._plus_plus._cache_size()
    for seed in range(3):
        prototypes.kmeans(X[:33], 6, key=jax.random.key(seed), steps=seed + 1)
    after = prototypes._lloyd._cache_size(), prototypes._plus_plus._cache_size()
    assert np.subtract(after, before).max() <= 1


@pytest.mark.slow
def test_chunks_and_meshes_do_not_matter(monkeypatch):
    whole = prototypes.kmeans(X, 4, key=KEY)
    monkeypatch.setattr(prototypes, "_DISTANCES", 27)
    text = jax.jit(lambda x: prototypes._nearest(x, whole.centroids)).lower(X).as_text()
    assert "6x4xf32" in text
    assert "40x4xf32" not in text
    assert jax.jit(lambda x: prototypes._nearest(x, whole.centroids))(X).tolist() == whole.members.tolist()
    monkeypatch.undo()
    mesh = Mesh(np.array(jax.devices()), ("data",))
    split = jax.device_put(X, NamedSharding(mesh, P("data")))
    sharded = jax.block_until_ready(prototypes.lloyd(split, X[:4]))
    np.testing.assert_array_equal(sharded.members, prototypes.lloyd(X, X[:4]).members)


ROW = jnp.zeros(40, int)


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("k=41 is more than the 40 examples", lambda: prototypes.kmeans(X, 41, key=KEY)),
        ("k=0 must be a whole number", lambda: prototypes.self_supervised(X, 0, key=KEY)),
        ("steps=-1 must be a whole number", lambda: prototypes.kmeans(X, 2, key=KEY, steps=-1)),
        ("key is a int", lambda: prototypes.kmeans(X, 2, key=0)),
        (r"x\[2\] is not finite", lambda: prototypes.self_supervised(X.at[2, 1].set(jnp.nan), 2, key=KEY)),
        (r"x has shape \(40,\)", lambda: prototypes.supervised(X[:, 0], LABELS, classes=4)),
        (r"x has shape \(0, 3\)", lambda: prototypes.kmeans(X[:0], 1, key=KEY)),
        ("x has dtype int32", lambda: prototypes.kmeans(X.astype(int), 1, key=KEY)),
        (r"labels lie in 0 … 3; pass integers in 0 … 2", lambda: prototypes.supervised(X, LABELS, classes=3)),
        (r"labels has shape \(39,\)", lambda: prototypes.supervised(X, LABELS[1:], classes=4)),
        ("labels has dtype float32", lambda: prototypes.supervised(X, X[:, 0], classes=4)),
        (r"members lie in 1 … 1", lambda: prototypes.prototype_distance(X, X[:1], ROW + 1)),
        (r"prototypes has shape \(4, 2\); pass \(k, 3\)", lambda: prototypes.prototype_distance(X, X[:4, :2], ROW)),
        ("centroids has 40 rows, more than the 4 examples", lambda: prototypes.lloyd(X[:4], X)),
    ],
)
def test_bad_input(words, wrong):
    with pytest.raises(InputError, match=words):
        wrong()
