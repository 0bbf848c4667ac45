"""Growth that moves between leaves: the total stays, each leaf's share of it follows a signal."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._check_trees import check_alike
from jaxticket.errors import InputError
from jaxticket.scopes._by_slice import within_leaves
from jaxticket.selection._counting import Count
from jaxticket.selection._group_counts import present
from jaxticket.selection._select import drop_and_grow_counts, living_units
from jaxticket.typing import Mask, Scores
from jaxticket.units import Unit

_MOST = 2**31 - 1  # the largest int32
_NEARLY_DENSE = 0.2  # the dead part of a leaf, below which it may drop less than the others


def redistribute(mask: Mask, *, drop: Scores, grow: Scores, drop_fraction: float | jax.Array, unit: Unit) -> Mask:
    """Drop a fraction of each leaf and grow as many units in all, shared by the leaves' mean growth scores.

    The mean is over the units that live (Dettmers & Zettlemoyer, 2019). A leaf of which less than a fifth is dead, and
    whose share is above average, drops at most as large a fraction as is dead. A leaf that fills up, to 1 % of its
    room, passes the rest on, evenly. Each layer of a unit by slice counts as a leaf. Raises InputError for 2^31 units
    or more.
    """
    sizes = [math.prod(u.shape) for u in jax.tree.leaves(jax.eval_shape(unit.pool, drop))]
    if sum(sizes) > _MOST:
        raise InputError(f"redistribution counts {sum(sizes)} units in int32; leave leaves out, or redistribute less.")
    if not sizes:
        return mask
    grow = check_alike("grow", grow, "drop", drop)
    return _redistribute(mask, drop, grow, drop_fraction, unit=unit)


@functools.partial(jax.jit, static_argnames="unit")
def _redistribute(mask: Mask, drop: Scores, grow: Scores, drop_fraction: Any, *, unit: Unit) -> Mask:
    alive, scope = living_units(mask, drop, unit), within_leaves(unit)
    places = present(scope.bind(alive))
    living_at = [own.view(a) for own, a in zip(places, jax.tree.leaves(alive), strict=True)]
    grown_at = [own.view(g) for own, g in zip(places, jax.tree.leaves(unit.pool(grow)), strict=True)]
    axes = [own.axes(a.shape) for own, a in zip(places, jax.tree.leaves(alive), strict=True)]
    counts = [jnp.sum(a, within, dtype=jnp.int32, keepdims=True) for a, within in zip(living_at, axes, strict=True)]
    means = [
        jnp.sum(jnp.where(a, g, 0), within, dtype=jnp.float32, keepdims=True) / _float(jnp.maximum(n, 1))
        for g, a, within, n in zip(grown_at, living_at, axes, counts, strict=True)
    ]
    lengths = [n.size for n in counts]  # the numbers of layers
    sizes = jnp.asarray(np.repeat([a.size // max(n, 1) for a, n in zip(living_at, lengths)], lengths), jnp.int32)
    living = _join(counts)
    share = shares(_join(means))
    dead = 1 - _float(living) / _float(jnp.maximum(sizes, 1))
    grows_while_dense = (dead < _NEARLY_DENSE) & (share > 1 / len(share))
    part = jnp.asarray(drop_fraction, jnp.float32)
    fraction = jnp.where(grows_while_dense, jnp.minimum(dead, part), part)
    keep = living - jnp.clip(jnp.ceil(fraction * _float(living)), 0, _float(living)).astype(jnp.int32)
    total = keep + _deal_with_reserve(share, _count(living - keep), sizes - keep)

    def by_leaf(numbers: jax.Array) -> list[Count]:
        parts = jnp.split(numbers, np.cumsum(lengths)[:-1])
        return [(part.reshape(n.shape),) for part, n in zip(parts, counts, strict=True)]

    return drop_and_grow_counts(mask, drop, grow, keep=by_leaf(keep), total=by_leaf(total), unit=unit, scope=scope)


def shares(strengths: jax.Array) -> jax.Array:
    """Return strengths over their sum, or equal shares where no strength is a positive number."""
    strengths = jnp.where(jnp.isfinite(strengths), jnp.maximum(strengths, 0), 0)
    scaled = strengths / jnp.where(jnp.max(strengths) > 0, jnp.max(strengths), 1)
    total = jnp.sum(scaled)
    return jnp.where(total > 0, scaled / jnp.where(total > 0, total, 1), 1 / len(strengths))


def _join(numbers: list[jax.Array]) -> jax.Array:
    return jnp.concatenate([n.ravel() for n in numbers])


def _deal_with_reserve(share: jax.Array, total: jax.Array, room: jax.Array) -> jax.Array:
    """Deal as `deal`, and use the last hundredth of each room only if the total fits nowhere else."""
    most = room - (room + 99) // 100
    dealt = deal(share, jnp.minimum(total, _count(most)), most)
    return dealt + deal(jnp.full(share.shape, 1 / len(share), share.dtype), total - _count(dealt), room - dealt)


def deal(share: jax.Array, total: jax.Array, room: jax.Array) -> jax.Array:
    """Return whole numbers with the sum `total`, near share · total, each at most its `room`; the overflow goes evenly.

    Args:
      share: float32 vector of sum 1.
      total: int32 scalar, at most the sum of `room`.
      room: int32 vector.
    """
    wish = share * _float(total)
    low = jnp.floor(wish).astype(jnp.int32)
    by_remainder = jnp.argsort(jnp.argsort(_float(low) - wish, stable=True))  # of as many numbers as there are leaves
    more = by_remainder.astype(jnp.int32) < total - _count(low)
    dealt = jnp.minimum(low + more.astype(jnp.int32), room)
    # In float32 the sum of floors may exceed the total: take that back from the front.
    excess = jnp.maximum(_count(dealt) - total, 0)
    before = jnp.cumsum(dealt, dtype=jnp.int32) - dealt
    dealt = dealt - jnp.clip(excess - before, 0, dealt)

    def evenly(_: Any, dealt: jax.Array) -> jax.Array:
        unfilled = dealt < room
        part = (total - _count(dealt)) // jnp.maximum(_count(unfilled), 1)
        return jnp.where(unfilled, dealt + jnp.minimum(part, room - dealt), dealt)

    # Each pass fills a leaf or leaves less than one unit for each that is not full.
    dealt = jax.lax.fori_loop(0, len(share), evenly, dealt)
    unfilled = dealt < room
    first = jnp.cumsum(unfilled, dtype=jnp.int32) <= total - _count(dealt)
    return dealt + (unfilled & first).astype(jnp.int32)


def _count(x: jax.Array) -> jax.Array:
    """Return the sum in int32, also where jax's integers have 64 bits."""
    return jnp.sum(x, dtype=jnp.int32)


def _float(x: jax.Array) -> jax.Array:
    return x.astype(jnp.float32)
