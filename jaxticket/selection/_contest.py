"""Contests for the places that a density leaves: scores, their keys, and the position of each entry."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from jaxticket.selection import _counting
from jaxticket.selection._counting import Count

_STORED = 1 << 19  # entries, below which keys are stored: that is a quarter faster on CPU and takes little memory

KeyFn = Callable[[jax.Array, jax.Array | None], jax.Array]  # (scores, alive entries) -> unsigned, in the same order
Values = list[jax.Array]  # one array a group set: a scalar (joint), a vector over leaves, or one array a leaf


class Contest(NamedTuple):
    """A contest between the entries of `scores[i]` along `axes[i]`, jointly over the leaves or leaf by leaf.

    Where `alive` is given, the others stand below all: `key` makes unsigned keys of the scores of a leaf and its alive
    entries (or None), 0 for entries that are not alive.
    """

    scores: list[jax.Array]
    axes: list[tuple[int, ...]]
    joint: bool
    key: KeyFn
    alive: list[jax.Array] | None = None

    def keys(self, scores: Sequence[jax.Array] | None = None) -> list[jax.Array]:
        """Return the keys of all leaves; if `scores` are given, the same scores as they are seen elsewhere, the keys of
        those.
        """
        alive: Sequence[jax.Array | None] = self.alive or [None] * len(self.scores)
        return [self.key(s, a) for s, a in zip(self.scores if scores is None else scores, alive, strict=True)]

    @property
    def large(self) -> bool:
        """Whether keys would take more memory than they save time."""
        return sum(s.size for s in self.scores) > _STORED

    def stored(self) -> "Contest":
        """Return the same contest, between keys that are computed once, unless it is large."""
        return self if self.large else self._replace(scores=self.keys(), key=lambda keys, _: keys)

    @property
    def stacked(self) -> bool:
        """Whether each leaf is one group: their thresholds live in one vector, so that many leaves cost one loop."""
        return not self.joint and all(len(a) == s.ndim for a, s in zip(self.axes, self.scores, strict=True))

    @property
    def sizes(self) -> list[int]:
        """The number of entries that compete in each group set."""
        within = [math.prod(s.shape[a] for a in axes) for s, axes in zip(self.scores, self.axes, strict=True)]
        if self.joint:
            return [sum(within)]
        return [max(within)] if self.stacked else within

    @property
    def on_explicit_mesh(self) -> bool:
        """Whether the types of the scores hold their shardings."""
        return any(AxisType.Explicit in jax.typeof(s).sharding.mesh.axis_types for s in self.scores)

    def spread(self, values: Values) -> list[jax.Array]:
        """Return values of groups as one array a leaf, which broadcasts against its keys."""
        if self.joint:
            return values * len(self.scores)
        return [values[0][i] for i in range(len(self.scores))] if self.stacked else values

    def tally(self, predicates: Sequence[Sequence[jax.Array]]) -> list[list[Count]]:
        """Count predicates[leaf][j] in each group, as counts[j][group set]."""
        digits = [_counting.digits_for(s) for s in self.sizes]
        wanted = digits if len(digits) == len(self.scores) else digits * len(self.scores)
        leaf_counts = [
            _counting.count(p, axes, d) for p, axes, d in zip(predicates, self.axes, wanted, strict=True)
        ]  # leaf_counts[leaf][j]
        return [self._gather([counts[j] for counts in leaf_counts]) for j in range(len(predicates[0]))]

    def _gather(self, counts: list[Count]) -> list[Count]:
        if not (self.joint or self.stacked):
            return counts
        scalars = [tuple(digit.reshape(()) for digit in c) for c in counts]
        if self.stacked:
            return [tuple(jnp.stack(digit) for digit in zip(*scalars, strict=True))]
        total = scalars[0]
        for c in scalars[1:]:
            total = _counting.add(total, c)
        return [total]


def positions(contest: Contest, leaf: int, origin: jax.Array) -> list[jax.Array]:
    """Return the position of each entry in its group: (leaf number if joint,) flat index from `origin`, which is 0.

    The most significant digit comes first. The indices are iotas at their place of use, so that XLA fuses them and each
    shard makes its own.
    """
    shape = contest.scores[leaf].shape
    depth = max(len(_axis_digits(s.shape, a)) for s, a in zip(contest.scores, contest.axes, strict=True))
    axis_digits = _axis_digits(shape, contest.axes[leaf])
    digits = [jnp.zeros((1,) * len(shape), jnp.uint32) for _ in range(depth - len(axis_digits))]
    for axes in axis_digits:
        index = jnp.broadcast_to(origin, shape)
        stride = 1
        for axis in reversed(axes):
            index += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(stride)
            stride *= shape[axis]
        digits.append(index)
    if contest.joint and len(contest.scores) > 1:
        digits.insert(0, jnp.full((1,) * len(shape), leaf, jnp.uint32))
    return digits


def position_bits(contest: Contest) -> list[int]:
    """Return even numbers of bits that hold each digit of a rank, and one more than its largest value."""
    shapes = [[math.prod(s.shape[a] for a in axes) for axes in _axis_digits(s.shape, leaf_axes)]
              for s, leaf_axes in zip(contest.scores, contest.axes, strict=True)]  # fmt: skip
    depth = max(len(s) for s in shapes)
    padded = [[1] * (depth - len(s)) + s for s in shapes]
    sizes = [max(column) for column in zip(*padded, strict=True)]
    if contest.joint and len(contest.scores) > 1:
        sizes.insert(0, len(contest.scores))
    # Ranks are positions plus 1 in their first digit.
    return [2 * (((size + 1).bit_length() + 1) // 2) for size in sizes]


def _axis_digits(shape: Sequence[int], axes: Sequence[int]) -> list[list[int]]:
    """Group the competing axes so that the flat index over each group stays below 2^31."""
    groups: list[list[int]] = [[]]
    size = 1
    for axis in sorted(axes, reverse=True):
        if size * shape[axis] >= 1 << 31:
            groups.insert(0, [])
            size = 1
        groups[0].insert(0, axis)
        size *= shape[axis]
    return groups
