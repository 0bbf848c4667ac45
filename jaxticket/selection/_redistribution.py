"""Growth that moves between leaves: the total stays, each leaf's share of it follows a signal."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, scopes
from jaxticket._check_trees import check_alike
from jaxticket.errors import InputError
from jaxticket.selection._counting import Count
from jaxticket.selection._select import drop_and_grow_counts, living_units
from jaxticket.typing import Mask, Scores
from jaxticket.units import Unit

_MOST = 2**31 - 1  # the largest int32
_NEARLY_DENSE = 0.2  # the dead part of a leaf, below which it may drop less than the others


def redistribute(mask: Mask, *, drop: Scores, grow: Scores, drop_fraction: float | jax.Array, unit: Unit) -> Mask:
    """Drop a fraction of each leaf and grow as many units in all, shared by the leaves' mean growth scores.

    The mean is over the units that live (Dettmers & Zettlemoyer, 2019). A leaf of which less than a fifth is dead, and
    whose share is above average, drops at most as large a fraction as is dead. A leaf that fills up, to 1 % of its
    room, passes the rest on, evenly. Raises InputError for 2^31 units or more.
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
    alive = living_units(mask, drop, unit)
    living = jnp.stack([jnp.sum(a, dtype=jnp.int32) for a in jax.tree.leaves(alive)])
    sizes = jnp.asarray([a.size for a in jax.tree.leaves(alive)], jnp.int32)
    means = _tree.map_present(
        lambda g, a: jnp.sum(jnp.where(a, g, 0), dtype=jnp.float32) / jnp.maximum(jnp.sum(a, dtype=jnp.int32), 1),
        unit.pool(grow),
        alive,
    )
    share = shares(jnp.stack(jax.tree.leaves(means)))
    dead = 1 - living / jnp.maximum(sizes, 1)
    grows_while_dense = (dead < _NEARLY_DENSE) & (share > 1 / len(share))
    fraction = jnp.where(grows_while_dense, jnp.minimum(dead, drop_fraction), drop_fraction)
    keep = living - jnp.clip(jnp.ceil(fraction * living), 0, living).astype(jnp.int32)
    total = keep + _deal_with_reserve(share, jnp.sum(living - keep), sizes - keep)

    def by_leaf(counts: jax.Array) -> list[Count]:
        return [(n.reshape((1,) * a.ndim),) for n, a in zip(counts, jax.tree.leaves(alive), strict=True)]

    return drop_and_grow_counts(
        mask, drop, grow, keep=by_leaf(keep), total=by_leaf(total), unit=unit, scope=scopes.leaf()
    )


def shares(strengths: jax.Array) -> jax.Array:
    """Return strengths over their sum, or equal shares where no strength is a positive number."""
    strengths = jnp.where(jnp.isfinite(strengths), jnp.maximum(strengths, 0), 0)
    scaled = strengths / jnp.where(jnp.max(strengths) > 0, jnp.max(strengths), 1)
    total = jnp.sum(scaled)
    return jnp.where(total > 0, scaled / jnp.where(total > 0, total, 1), 1 / len(strengths))


def _deal_with_reserve(share: jax.Array, total: jax.Array, room: jax.Array) -> jax.Array:
    """Deal as `deal`, and use the last hundredth of each room only if the total fits nowhere else."""
    most = room - (room + 99) // 100
    dealt = deal(share, jnp.minimum(total, jnp.sum(most)), most)
    return dealt + deal(jnp.full(share.shape, 1 / len(share)), total - jnp.sum(dealt), room - dealt)


def deal(share: jax.Array, total: jax.Array, room: jax.Array) -> jax.Array:
    """Return whole numbers with the sum `total`, near share · total, each at most its `room`; the overflow goes evenly.

    Args:
      share: float32 vector of sum 1.
      total: int32 scalar, at most the sum of `room`.
      room: int32 vector.
    """
    wish = share * total
    low = jnp.floor(wish).astype(jnp.int32)
    by_remainder = jnp.argsort(jnp.argsort(low - wish, stable=True))  # of as many numbers as there are leaves
    dealt = jnp.minimum(low + (by_remainder < total - jnp.sum(low)), room)
    # In float32 the sum of floors may exceed the total: take that back from the front.
    excess = jnp.maximum(jnp.sum(dealt) - total, 0)
    before = jnp.cumsum(dealt) - dealt
    dealt = dealt - jnp.clip(excess - before, 0, dealt)

    def evenly(_: Any, dealt: jax.Array) -> jax.Array:
        unfilled = dealt < room
        part = (total - jnp.sum(dealt)) // jnp.maximum(jnp.sum(unfilled, dtype=jnp.int32), 1)
        return jnp.where(unfilled, dealt + jnp.minimum(part, room - dealt), dealt)

    # Each pass fills a leaf or leaves less than one unit for each that is not full.
    dealt = jax.lax.fori_loop(0, len(share), evenly, dealt)
    unfilled = dealt < room
    first = jnp.cumsum(unfilled, dtype=jnp.int32) <= total - jnp.sum(dealt)
    return dealt + (unfilled & first)
