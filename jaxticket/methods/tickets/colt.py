"""COLT: tickets of copies that each saw some of the classes, intersected (Hossain et al., 2022).

All copies share their first weights and, from each round to the next, one mask: a weight stays if every copy would keep
it. So a round prunes more than one of `imp`, and a density is reached in fewer of them. The result is one ticket,
for a network of all classes.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import loops, masks, schedules, training
from jaxticket._check_trees import check_structure
from jaxticket.errors import InputError, StructureError
from jaxticket.loops import Level
from jaxticket.loops._level import LevelStore, PruneFn
from jaxticket.loops.branches import InitFn, transfer
from jaxticket.tickets import Ticket
from jaxticket.typing import Density, Filter, Key, Mask, Params, PyTree, Trained, TrainFn

__all__ = ["colt", "full_ticket", "partition", "partition_train"]


def colt(
    train: TrainFn,
    ticket: Ticket,
    *,
    partitions: int,
    rounds: int,
    rate: float = 0.15,
    prune: PruneFn = loops.prune_by(),
    key: Key,
    store: LevelStore | None = None,
) -> Iterator[Level]:
    """Search by training copies on parts of the classes, pruning each, keeping what all of them keep, and rewinding.

    It is a search by `imp`, so it resumes and stores as that does. Every array of its tickets has a leading axis of
    partitions, along which the masks are equal. One partition is iterative pruning. `full_ticket` makes the ticket for
    all classes of a level. The published code prunes convolutions only; here `ticket.mask` decides.

    Args:
      train: trains stacked copies, each on its part of the classes, as `partition_train` makes it.
      ticket: the ticket of one copy: the first weights, with the head of a part. Leaves whose mask is None, such as the
        head, are neither pruned nor shared.
      partitions: the number of copies.
      rounds: the number of levels, of which the first is dense.
      rate: the part of the survivors that each copy prunes.
      prune: chooses the survivors of a copy, such as `loops.prune_by(scores.magnitude)`.
      key: as for `imp`.
      store: as for `imp`.

    Yields:
      Level(index, density, ticket, trained), where the density is that of the ticket: at most (1 − rate)^index.

    Raises:
      InputError: no partitions or rounds, or a rate outside (0, 1).
    """
    if partitions < 1:
        raise InputError(f"partitions={partitions} must be at least 1")
    densities = schedules.levels(rounds, rate=rate)  # of one copy alone
    stacked = dataclasses.replace(ticket, **_repeat(ticket, partitions))
    levels = loops.imp(train, stacked, densities=densities, prune=_overlap(prune, rate), key=key, store=store)
    return (level._replace(density=_density(level.ticket)) for level in levels)


def partition(x: Any, y: Any, *, partitions: int, classes: int) -> tuple[jax.Array, jax.Array]:
    """Split examples by class: part i has the classes from i · classes / partitions on, with labels that start at 0.

    Args:
      x: (examples, …).
      y: (examples,) integer labels below `classes`.
      partitions: the number of parts.
      classes: the number of classes.

    Returns:
      (partitions, n, …) and (partitions, n): the first n examples of each part, for the n of the smallest one.

    Raises:
      InputError: partitions that do not divide the classes, labels out of range, or a part without an example.

    Examples:
      >>> x, y = partition(jnp.arange(5), jnp.array([3, 0, 1, 2, 2]), partitions=2, classes=4)
      >>> x.tolist(), y.tolist()
      ([[1, 2], [0, 3]], [[0, 1], [1, 0]])
    """
    x, y = np.asarray(x), np.asarray(y)
    if partitions < 1 or classes % partitions:
        raise InputError(f"partitions={partitions} must divide the {classes} classes, so that all heads have one shape")
    if len(x) != len(y) or y.min(initial=0) < 0 or y.max(initial=0) >= classes:
        raise InputError(f"y has {len(y)} labels for {len(x)} examples; pass one for each, between 0 and {classes - 1}")
    part, label = np.divmod(y, classes // partitions)
    rows = [np.flatnonzero(part == index) for index in range(partitions)]
    smallest = min(map(len, rows))
    if not smallest:
        raise InputError(f"y has no example for one of the {partitions} parts of the {classes} classes")
    chosen = np.stack([r[:smallest] for r in rows])
    return jnp.asarray(x[chosen]), jnp.asarray(label[chosen])


def partition_train(recipe: Callable[[PyTree], training.Recipe], data: PyTree, *, steps: int) -> TrainFn:
    """Train all copies in one program, each for `steps` steps on its part.

    Args:
      recipe: the examples of a part, traced -> the recipe of a copy.
      data: arrays with leading axes (partitions, examples), such as those of `partition`.
      steps: the length of the training.

    Returns:
      The `TrainFn` for `colt`; its metrics are lists of one value a partition. Each copy has its own key.
    """

    def train_one(
        data: PyTree, params: Params, state: PyTree, mask: Mask, key: Key, opt_state: PyTree, step: int
    ) -> Trained:
        fit = training.scan_train(recipe(data), steps=steps)
        return fit(params, state, mask, key, step=step, opt_state=opt_state)

    several = jax.jit(jax.vmap(train_one, in_axes=(0, 0, 0, 0, 0, 0, None)), static_argnums=6)

    def train(params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, opt_state: PyTree | None) -> Trained:
        keys = jax.random.split(key, jax.tree.leaves(data)[0].shape[0])
        trained = several(data, params, state, mask, keys, opt_state, step)
        return trained._replace(metrics={name: values.tolist() for name, values in trained.metrics.items()})

    return train


def full_ticket(level: Level, init: InitFn, *, key: Key, redraw: Filter | None = None) -> Ticket:
    """Return the ticket for all classes: the mask that the copies share, over their first weights.

    Args:
      level: a level of `colt`.
      init: key -> parameters and model state of the network for all classes.
      key: a typed PRNG key.
      redraw: the leaves that come from `init`, such as its head, filters.match("^output/.").

    Returns:
      The ticket.

    Raises:
      StructureError: as `loops.branches.transfer`.
      NoMatchError: as `loops.branches.transfer`.
    """
    fields = {name: jax.tree.map(lambda x: x[0], getattr(level.ticket, name)) for name in ("params", "mask", "state")}
    return transfer(dataclasses.replace(level.ticket, **fields, opt_state=None), init, key=key, redraw=redraw)


def _overlap(prune: PruneFn, rate: float) -> PruneFn:
    """Return a function that prunes each copy at this rate, for any density, and keeps what all copies keep."""

    def overlap(params: Params, mask: Mask, density: Density, *, key: Key) -> Mask:
        del density
        shared = jax.tree.map(lambda m: m[0], mask)
        copies = jax.tree.leaves(mask)[0].shape[0]
        members = [jax.tree.map(lambda p, i=i: p[i], params) for i in range(copies)]
        kept = masks.summary(members[0], shared).maskable
        target = (1 - rate) * kept.kept / kept.size
        pruned = [prune(own, shared, target, key=key) for own in members]
        common = pruned[0]
        for other in pruned[1:]:
            common = masks.intersection(common, other)
        return jax.tree.map(lambda m: jnp.repeat(m[None], copies, 0), common)

    return overlap


def _repeat(ticket: Ticket, partitions: int) -> dict[str, PyTree]:
    check_structure("ticket.mask", ticket.mask, "ticket.params", ticket.params)
    if not jax.tree.leaves(ticket.mask):
        raise StructureError("ticket.mask is None everywhere; filters.full_mask makes the mask of prunable weights")
    repeat = lambda x: jnp.repeat(jnp.asarray(x)[None], partitions, 0)
    return {name: jax.tree.map(repeat, getattr(ticket, name)) for name in ("params", "mask", "state", "opt_state")}


def _density(ticket: Ticket) -> float:
    return masks.summary(ticket.params, ticket.mask).maskable.density or 0.0
