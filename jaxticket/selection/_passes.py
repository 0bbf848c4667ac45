"""Passes over one leaf, as compiled functions of its shape: leaves of equal shape are traced and lowered once.

They use `jax.lax` alone. Each function of `jax.numpy` is traced again for each new shape, and over many leaves of
different shapes that would be most of the time that a selection takes to trace.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxticket.selection import _counting
from jaxticket.selection._counting import Count
from jaxticket.selection._keys import KeyFn

Layout = tuple[tuple[int, ...], ...]  # the axes of each digit of a position, the most significant digit first

NOWHERE = np.uint32(0xFFFFFFFF)  # above the first digit of every position
_CANDIDATES = (1, 2, 3)  # of a pass that decides two bits, in steps from a base


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["scores", "alive", "number"],
    meta_fields=["key", "axes", "layout", "digits", "joint"],
)
@dataclasses.dataclass(frozen=True)
class Leaf:
    """A leaf of a contest, as the passes see it.

    Attributes:
      scores: the scores.
      alive: the entries that compete, or None for all.
      number: the number of the leaf, where it is a part of positions, or None.
      key: the function that makes the keys of scores.
      axes: the axes along which entries compete.
      layout: the axes of each digit of a position.
      digits: the number of digits of a count.
      joint: whether leaves compete together, so that counts are scalars.
    """

    scores: jax.Array
    alive: jax.Array | None
    number: np.uint32 | None
    key: KeyFn
    axes: tuple[int, ...]
    layout: Layout
    digits: int
    joint: bool


@jax.jit
def make_keys(leaf: Leaf) -> jax.Array:
    """Return the keys of a leaf."""
    return leaf.key(leaf.scores, leaf.alive)


@jax.jit
def count_true(leaf: Leaf) -> Count:
    """Count the scores of a leaf that are True.

    Those that are False are counted beside them: XLA splits a reduction of one operand into several programs. The
    barrier keeps it from leaving out what nobody reads.
    """
    alive, _ = lax.optimization_barrier(_count(leaf, [leaf.scores, lax.bitwise_not(leaf.scores)]))
    return alive


@jax.jit
def count_reaching(leaf: Leaf, base: jax.Array, step: jax.Array) -> list[Count]:
    """Count the keys of a leaf that reach base + step, base + 2 step and base + 3 step."""
    keys = leaf.key(leaf.scores, leaf.alive)
    return _count(leaf, [lax.ge(keys, _fit(c, keys)) for c in _candidates(base, step)])


@jax.jit
def count_before(
    leaf: Leaf, origin: jax.Array, threshold: jax.Array, cuts: Sequence[jax.Array], base: jax.Array, step: jax.Array
) -> list[Count]:
    """Count the entries of a leaf whose rank's first digits lie before the cuts and each candidate: base + step, base +
    2 step and base + 3 step. `origin` is 0.
    """
    rank = _rank(leaf, threshold, origin)[: len(cuts) + 1]
    return _count(leaf, [_before(rank, [*cuts, c]) for c in _candidates(base, step)])


@jax.jit
def cut(leaf: Leaf, origin: jax.Array, threshold: jax.Array, cuts: Sequence[jax.Array]) -> jax.Array:
    """Return the mask of the entries of a leaf whose rank lies before the cuts. `origin` is 0."""
    return _before(_rank(leaf, threshold, origin), cuts)


@functools.partial(jax.jit, static_argnames="accept")
def advance(
    value: jax.Array,
    exact: jax.Array,
    counts: Sequence[Count],
    wanted: Count,
    step: jax.Array,
    *,
    accept: Callable[[Count, Count], jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Return the values at the last candidates whose counts are accepted, and whether any count was the wanted one.

    Beyond a candidate with the wanted count only values with the same count are accepted.
    """
    steps = sum(accept(n, wanted).astype(value.dtype) for n in counts)
    return value + steps * step, functools.reduce(jnp.logical_or, [_counting.equal(n, wanted) for n in counts], exact)


def _candidates(base: jax.Array, step: jax.Array) -> list[jax.Array]:
    return [lax.add(base, lax.mul(step, np.asarray(j, step.dtype))) for j in _CANDIDATES]


def _count(leaf: Leaf, predicates: Sequence[jax.Array]) -> list[Count]:
    counts = _counting.count(predicates, leaf.axes, leaf.digits)
    return [tuple(lax.reshape(digit, ()) for digit in c) for c in counts] if leaf.joint else counts


def _rank(leaf: Leaf, threshold: jax.Array, origin: jax.Array) -> list[jax.Array]:
    """Return digits that order the entries above the threshold, then the ties by position, then the rest.

    The position is (the number of the leaf,) the flat index from `origin`. The most significant digit comes first.
    """
    keys = leaf.key(leaf.scores, leaf.alive)
    threshold = _fit(threshold, keys)
    tied = lax.eq(keys, threshold)
    if leaf.alive is not None:
        tied = lax.bitwise_and(tied, leaf.alive)
    position = [_flat_index(keys, axes, origin) for axes in leaf.layout]
    if leaf.number is not None:
        position.insert(0, _full(keys, leaf.number))
    first = lax.select(tied, lax.add(position[0], np.uint32(1)), _full(keys, NOWHERE))
    return [lax.select(lax.gt(keys, threshold), _full(keys, np.uint32(0)), first), *position[1:]]


def _flat_index(like: jax.Array, axes: tuple[int, ...], origin: jax.Array) -> jax.Array:
    """Return the flat index of each entry over `axes`, counted from `origin`, which is 0.

    It is made of iotas at their place of use, so that XLA fuses them and each shard makes its own. Each depends on the
    origin: else those of small axes would be programs of their own, before the loop.
    """
    start = _full(like, origin)
    index, stride = start, 1
    for axis in reversed(axes):
        iota = lax.add(start, lax.broadcasted_iota(jnp.uint32, like.shape, axis))
        index = lax.add(index, lax.mul(iota, np.uint32(stride)))
        stride *= like.shape[axis]
    return index


def _full(like: jax.Array, value: jax.Array | np.uint32) -> jax.Array:
    return lax.full_like(like, value, dtype=jnp.uint32)


def _before(rank: Sequence[jax.Array], cuts: Sequence[jax.Array]) -> jax.Array:
    """Whether rank < cuts, lexicographically."""
    *leading, (last, end) = [(digit, _fit(c, digit)) for digit, c in zip(rank, cuts, strict=True)]
    before = lax.lt(last, end)
    for digit, c in reversed(leading):
        before = lax.bitwise_or(lax.lt(digit, c), lax.bitwise_and(lax.eq(digit, c), before))
    return before


def _fit(value: jax.Array, like: jax.Array) -> jax.Array:
    """Return a value of groups with as many axes as a leaf; that of all leaves comes as a scalar."""
    return value if value.ndim == like.ndim else lax.reshape(value, (1,) * like.ndim)
