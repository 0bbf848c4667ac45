"""Contests for the places that a density leaves: scores, their keys, and the groups in which they compete."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType

from jaxticket.selection import _counting, _keys, _passes
from jaxticket.selection._counting import Count
from jaxticket.selection._keys import KeyFn

_STORED = 1 << 19  # entries, below which keys are stored: that is a quarter faster on CPU and takes little memory

Values = list[jax.Array]  # one array a group set: a scalar (joint), or one array a leaf


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

    @property
    def large(self) -> bool:
        """Whether keys would take more memory than they save time."""
        return sum(s.size for s in self.scores) > _STORED

    def stored(self) -> "Contest":
        """Return the same contest, between keys that are computed once, unless it is large."""
        if self.large or self.key is _keys.as_given:
            return self
        return self._replace(scores=[_passes.make_keys(leaf) for leaf in self.leaves()], key=_keys.as_given)

    @property
    def sizes(self) -> list[int]:
        """The number of entries that compete in each group set."""
        within = [math.prod(s.shape[a] for a in axes) for s, axes in zip(self.scores, self.axes, strict=True)]
        return [sum(within)] if self.joint else within

    @property
    def on_explicit_mesh(self) -> bool:
        """Whether the types of the scores hold their shardings."""
        return any(AxisType.Explicit in jax.typeof(s).sharding.mesh.axis_types for s in self.scores)

    def leaves(self) -> list[_passes.Leaf]:
        """Return the leaves, as the passes take them."""
        layouts, sizes = self.layouts, self.sizes
        return [
            _passes.Leaf(
                scores=self.scores[i],
                alive=None if self.alive is None else self.alive[i],
                number=np.uint32(i) if self.numbered else None,
                key=self.key,
                axes=self.axes[i],
                layout=layouts[i],
                digits=_counting.digits_for(sizes[0] if self.joint else sizes[i]),
                joint=self.joint,
            )
            for i in range(len(self.scores))
        ]

    @property
    def numbered(self) -> bool:
        """Whether the number of the leaf is a part of positions."""
        return self.joint and len(self.scores) > 1

    @property
    def layouts(self) -> list[_passes.Layout]:
        """The axes of each digit of the positions in each leaf, with as many digits for each."""
        axis_digits = [_axis_digits(s.shape, a) for s, a in zip(self.scores, self.axes, strict=True)]
        depth = max(map(len, axis_digits))
        return [((),) * (depth - len(digits)) + digits for digits in axis_digits]

    @property
    def position_bits(self) -> list[int]:
        """Even numbers of bits that hold each digit of a rank, and one more than its largest value."""
        shapes = [[math.prod(s.shape[a] for a in axes) for axes in layout]
                  for s, layout in zip(self.scores, self.layouts, strict=True)]  # fmt: skip
        sizes = [max(column) for column in zip(*shapes, strict=True)]
        if self.numbered:
            sizes.insert(0, len(self.scores))
        # Ranks are positions plus 1 in their first digit.
        return [2 * (((size + 1).bit_length() + 1) // 2) for size in sizes]

    def spread(self, values: Values) -> Values:
        """Return values of groups as one array a leaf: a scalar, or one that broadcasts against it."""
        return values * len(self.scores) if self.joint else values

    def gather(self, leaf_counts: Sequence[Sequence[Count]]) -> list[list[Count]]:
        """Return the counts leaf_counts[leaf][j] as counts[j][group set]."""
        return [self._gather(counts) for counts in zip(*leaf_counts, strict=True)]

    def _gather(self, counts: Sequence[Count]) -> list[Count]:
        return [functools.reduce(_counting.add, counts)] if self.joint else list(counts)


def _axis_digits(shape: Sequence[int], axes: Sequence[int]) -> _passes.Layout:
    """Group the competing axes so that the flat index over each group stays below 2^31."""
    groups: list[list[int]] = [[]]
    size = 1
    for axis in sorted(axes, reverse=True):
        if size * shape[axis] >= 1 << 31:
            groups.insert(0, [])
            size = 1
        groups[0].insert(0, axis)
        size *= shape[axis]
    return tuple(map(tuple, groups))
