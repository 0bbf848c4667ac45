"""Distances of examples from the prototype of their kind (Sorscher et al., "Beyond neural scaling laws", 2022).

Kinds are clusters of embeddings, so that no label is needed, or the classes. The caller decides where an embedding
comes from, such as a self-supervised network.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_array, check_count, check_key, known
from jaxticket._dtypes import wide
from jaxticket.errors import InputError
from jaxticket.typing import Key

__all__ = ["Clusters", "kmeans", "lloyd", "prototype_distance", "self_supervised", "supervised"]

_DISTANCES = 2**24  # from examples to centroids, held at once


class Clusters(NamedTuple):
    """The result of `kmeans`."""

    centroids: jax.Array  # (k, width)
    members: jax.Array  # (examples,) int32: the nearest centroid of each
    inertia: jax.Array  # (): the squared distances to it, added up


def self_supervised(x: jax.Array, k: int, *, key: Key, steps: int = 100) -> jax.Array:
    """Return 1 − cosine of each embedding and the centroid of its cluster, between 0 and 2: higher = harder.

    Embeddings are scaled to length 1 before they are clustered, so their lengths do not matter.

    Args:
      x: (examples, width), embeddings.
      k: the number of clusters; the paper takes as many as classes and finds that it hardly matters.
      key: a typed PRNG key.
      steps: the most steps of `kmeans`.

    Returns:
      (examples,) distances.

    Raises:
      InputError: as `kmeans`.

    Examples:
      >>> x = jnp.array([[1.0, 0.0], [4.0, 0.0], [-2.0, 2.0], [-2.0, 0.0]])
      >>> [f"{score:.3f}" for score in self_supervised(x, 2, key=jax.random.key(0))]  # the second cluster is 45° wide
      ['0.000', '0.000', '0.076', '0.076']
    """
    _check_embeddings(x)
    clusters = kmeans(_unit(x), k, key=key, steps=steps)
    return _cosine_distance(x, clusters.centroids, clusters.members)


def supervised(x: jax.Array, labels: jax.Array, *, classes: int) -> jax.Array:
    """Return 1 − cosine of each embedding and the mean of its class, between 0 and 2: higher = harder.

    Embeddings are scaled to length 1 before they are averaged.

    Args:
      x: (examples, width), embeddings.
      labels: (examples,) integers in 0 … classes − 1.
      classes: the number of classes.

    Returns:
      (examples,) distances.

    Raises:
      InputError: as `prototype_distance`.

    Examples:
      >>> supervised(jnp.array([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0]]), jnp.array([0, 0, 1]), classes=2).max() < 1e-9
      Array(True, dtype=bool)
    """
    _check_embeddings(x)
    check_count(1, classes=classes)
    _check_members("labels", labels, len(x), int(classes))
    return _to_class_mean(x, labels, int(classes))


def prototype_distance(x: jax.Array, prototypes: jax.Array, members: jax.Array) -> jax.Array:
    """Return 1 − cosine of each embedding and its own prototype, 0 where they point the same way.

    Args:
      x: (examples, width), embeddings of any length; one of zeros is at distance ½.
      prototypes: (k, width).
      members: (examples,) integers in 0 … k − 1, the prototype of each example.

    Returns:
      (examples,) distances.

    Raises:
      InputError: other shapes or types, embeddings that are not finite, or members out of range.

    Examples:
      >>> prototype_distance(jnp.array([[2.0, 0.0], [0.0, 3.0]]), jnp.array([[1.0, 0.0]]), jnp.array([0, 0]))
      Array([0., 1.], dtype=float32)
    """
    _check_embeddings(x)
    _check_centroids("prototypes", prototypes, x)
    _check_members("members", members, len(x), len(prototypes))
    return _cosine_distance(x, prototypes, members)


def kmeans(x: jax.Array, k: int, *, key: Key, steps: int = 100) -> Clusters:
    """Run Lloyd's k-means from the centroids that k-means++ draws (Arthur & Vassilvitskii, 2007).

    Args:
      x: (examples, width).
      k: the number of clusters, at most that of examples.
      key: a typed PRNG key.
      steps: the most steps of Lloyd; it ends where no example changes its cluster.

    Returns:
      The clusters.

    Raises:
      InputError: examples that are not finite, or other numbers and shapes than these.

    Examples:
      >>> kmeans(jnp.array([[0.0, 5.0], [1.0, 5.0], [9.0, 5.0], [10.0, 5.0]]), 2, key=jax.random.key(0)).inertia
      Array(1., dtype=float32)
    """
    check_key("key", key)
    _check_embeddings(x)
    check_count(1, k=k)
    check_count(0, steps=steps)
    if known(k) > len(x):
        raise InputError(f"k={k} is more than the {len(x)} examples; pass at most as many clusters")
    return lloyd(x, _plus_plus(key, _wide(x), int(k)), steps=steps)


def lloyd(x: jax.Array, centroids: jax.Array, *, steps: int = 100) -> Clusters:
    """Run k-means from given centroids: each moves to the mean of its nearest examples, until none changes (1982).

    The inertia never rises. A centroid without examples moves to the example that is farthest from its own, several of
    them to the farthest few. Distances to all centroids are held for some 16 million pairs at once.

    Args:
      x: (examples, width).
      centroids: (k, width), at most as many as examples.
      steps: the most steps.

    Returns:
      The clusters.

    Raises:
      InputError: examples or centroids that are not finite, or other numbers and shapes than these.

    Examples:
      >>> x = jnp.array([[0.0, 5.0], [1.0, 5.0], [9.0, 5.0], [10.0, 5.0]])
      >>> lloyd(x, x[:2], steps=1).members
      Array([0, 0, 1, 1], dtype=int32)
    """
    _check_embeddings(x)
    _check_centroids("centroids", centroids, x)
    check_count(0, steps=steps)
    if len(centroids) > len(x):
        raise InputError(f"centroids has {len(centroids)} rows, more than the {len(x)} examples; pass at most as many")
    return _lloyd(_wide(x), _wide(centroids), jnp.int32(steps))


@functools.partial(jax.jit, static_argnames="classes")
def _to_class_mean(x: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    return _cosine_distance(x, _means(_unit(x), labels, classes)[0], labels)


@jax.jit
def _cosine_distance(x: jax.Array, prototypes: jax.Array, members: jax.Array) -> jax.Array:
    # Half the square between vectors of length 1; their product would round to 1 for all near ones.
    return _squared_distance(_unit(x), _unit(prototypes)[members]) / 2


@functools.partial(jax.jit, static_argnames="k")
def _plus_plus(key: Key, x: jax.Array, k: int) -> jax.Array:
    """Draw (k, width) examples, with probability as their squared distance to the nearest drawn before."""
    keys = jax.random.split(key, k)
    first = x[jax.random.randint(keys[0], (), 0, len(x))]

    def draw(at: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        centroids, squared = carry
        drawn = x[jax.random.categorical(keys[at], jnp.log(squared))]
        return centroids.at[at].set(drawn), jnp.minimum(squared, _squared_distance(x, drawn[None]))

    start = jnp.zeros((k, x.shape[1]), x.dtype).at[0].set(first)
    return jax.lax.fori_loop(1, k, draw, (start, _squared_distance(x, first[None])))[0]


@jax.jit
def _lloyd(x: jax.Array, centroids: jax.Array, steps: jax.Array) -> Clusters:
    k = len(centroids)

    def step(carry: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> Any:
        done, _, centroids, members = carry
        means, sizes = _means(x, members, k)
        empty = sizes == 0

        def reseed() -> jax.Array:
            farthest = x[jax.lax.top_k(_squared_distance(x, centroids[members]), k)[1]]
            return jnp.where(empty[:, None], farthest[jnp.cumsum(empty) - 1], means)

        moved = jax.lax.cond(jnp.any(empty), reseed, lambda: means)
        again = _nearest(x, moved)
        return done + 1, jnp.any(again != members), moved, again

    start = (jnp.int32(0), jnp.bool_(True), centroids, _nearest(x, centroids))
    _, _, centroids, members = jax.lax.while_loop(lambda carry: (carry[0] < steps) & carry[1], step, start)
    return Clusters(centroids, members, jnp.sum(_squared_distance(x, centroids[members])))


def _means(x: jax.Array, members: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Return (k, width) means of the members of each, zeros where there are none, and (k,) how many there are."""
    sums = jax.ops.segment_sum(x, members, num_segments=k)
    sizes = jax.ops.segment_sum(jnp.ones(len(x), x.dtype), members, num_segments=k)
    return sums / jnp.maximum(sizes, 1)[:, None], sizes


def _nearest(x: jax.Array, centroids: jax.Array) -> jax.Array:
    lengths = jnp.sum(jnp.square(centroids), -1)

    def nearest(row: jax.Array) -> jax.Array:
        product = jnp.matmul(centroids, row, precision=jax.lax.Precision.HIGHEST)
        return jnp.argmin(lengths - 2 * product).astype(jnp.int32)

    return jax.lax.map(nearest, x, batch_size=min(len(x), max(1, _DISTANCES // len(centroids))))


def _squared_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x - y), -1)


@jax.jit
def _unit(x: jax.Array) -> jax.Array:
    """Scale rows to length 1; zeros stay."""
    x = _wide(x)
    length = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.where(length > 0, length, 1)


def _wide(x: jax.Array) -> jax.Array:
    return wide(jnp.asarray(x))


def _check_embeddings(x: Any, name: str = "x") -> None:
    check_array(name, x, np.floating)
    if x.ndim != 2 or not x.size:
        raise InputError(
            f"{name} has shape {x.shape}; pass two axes, a row for each and the width, at least one of each"
        )
    if not isinstance(x, jax.core.Tracer):
        with jax.ensure_compile_time_eval():  # also checks arrays that a traced function closes over
            row = int(_first_bad_row(x))
        if row < len(x):
            raise InputError(f"{name}[{row}] is not finite; leave such rows out")


def _check_centroids(name: str, centroids: Any, x: jax.Array) -> None:
    _check_embeddings(centroids, name)
    if centroids.shape[1] != x.shape[1]:
        raise InputError(f"{name} has shape {centroids.shape}; pass (k, {x.shape[1]}), since x has shape {x.shape}")


@jax.jit
def _first_bad_row(array: jax.Array) -> jax.Array:
    """Return the index of the first row with NaN or infinity, or the number of rows."""
    bad = ~jnp.isfinite(array).all(-1)
    return jnp.where(jnp.any(bad), jnp.argmax(bad), len(array))


def _check_members(name: str, members: Any, examples: int, kinds: int) -> None:
    check_array(name, members, np.integer)
    if members.shape != (examples,):
        raise InputError(f"{name} has shape {members.shape}; pass ({examples},), one for each row of x")
    if not isinstance(members, jax.core.Tracer):
        with jax.ensure_compile_time_eval():
            least, most = int(members.min()), int(members.max())
        if not 0 <= least <= most < kinds:
            raise InputError(f"{name} lie in {least} … {most}; pass integers in 0 … {kinds - 1}")
