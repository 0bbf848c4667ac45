"""Iterative magnitude pruning, and any search of its shape: train, prune the survivors, rewind, repeat."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax

from jaxticket._checks import check_count, check_densities, check_key, known
from jaxticket.errors import InputError
from jaxticket.loops._collapse import warn_of_collapse
from jaxticket.loops._level import Level, LevelStore, PruneFn
from jaxticket.tickets import rewinds
from jaxticket.tickets._ticket import Ticket, copy, fit_mask
from jaxticket.tickets._ticket import rewind as rewind_ticket
from jaxticket.tickets.rewinds import Rewind
from jaxticket.typing import Density, Key, Trained, TrainFn


def imp(
    train: TrainFn,
    ticket: Ticket,
    *,
    densities: Sequence[Density],
    prune: PruneFn,
    rewind: Rewind = rewinds.weights(),
    key: Key,
    store: LevelStore | None = None,
) -> Iterator[Level]:
    """Search for winning tickets by iterative pruning (Frankle & Carbin, 2019).

    Level 0 trains `ticket` at densities[0] (usually 1.0, its mask as it is). Each next level prunes what the last one
    trained, survivors among survivors, rewinds, and trains again. Counts are rounded, where open_lth rounds up those
    that a level prunes, and prunes one more. Densities (1.0, d) make it one-shot pruning.
    Training gets copies of all arrays and may donate them. With a `store`, a level that is there is loaded instead of
    trained, so a killed search resumes from its last finished level to the same bits.

    Args:
      train: called as train(params, state, mask, key, step=..., opt_state=...), with masked parameters.
      ticket: parameters at the rewind point, not masked, and the mask of the weights that can be pruned.
      densities: for each level, the fraction kept of the weights that are not None in the mask, or a pytree of such
        fractions; never increasing.
      prune: chooses the survivors, such as `loops.prune_by(scores.magnitude)`.
      rewind: the policy that makes the ticket of the next level.
      key: folded with the level's index, see `level_keys`.
      store: keeps finished levels, such as `Store(directory)`.

    Yields:
      Level(index, density, ticket, trained), each as soon as it is trained.

    Raises:
      InputError: no densities, one outside [0, 1], or one above its predecessor, before anything is trained.
      CheckpointError: the store holds levels of another search.
    """
    densities = as_densities(densities)
    ticket = fit_mask(ticket)
    check_densities(densities, ticket.mask)
    return _levels(train, ticket, densities, prune, rewind, key, store)


def _levels(
    train: TrainFn,
    ticket: Ticket,
    densities: tuple[Density, ...],
    prune: PruneFn,
    rewind: Rewind,
    key: Key,
    store: LevelStore | None,
) -> Iterator[Level]:
    trained = None
    for index, density in enumerate(densities):
        ticket = next_ticket(ticket, trained, index=index, density=density, prune=prune, rewind=rewind, key=key)
        train_key, _ = level_keys(index, key=key)
        level = train_level(train, ticket, index=index, density=density, key=train_key, store=store)
        trained = level.trained
        yield level


def next_ticket(
    ticket: Ticket,
    trained: Trained | None,
    *,
    index: int,
    density: Density,
    prune: PruneFn,
    rewind: Rewind = rewinds.weights(),
    key: Key,
) -> Ticket:
    """Return the ticket of a level of `imp`, for a loop that trains it in its own way.

    Args:
      ticket: the ticket of the level before, or at the first level that of the search.
      trained: what training it gave; None at the first level, which prunes the ticket's own weights if `density` is
        below 1.
      index: the level's number, from 0.
      density: the fraction to keep, or a pytree of them.
      prune: as of `imp`.
      rewind: as of `imp`.
      key: that of the search, see `level_keys`.

    Returns:
      The ticket, which `train_level` trains.
    """
    _, prune_key = level_keys(index, key=key)
    if trained is not None:
        return rewind(ticket, trained, prune(trained.params, ticket.mask, density, key=prune_key))
    if any(d < 1 for d in jax.tree.leaves(density)):
        return dataclasses.replace(ticket, mask=prune(ticket.params, ticket.mask, density, key=prune_key))
    return ticket


def train_level(
    train: TrainFn, ticket: Ticket, *, index: int, density: Density, key: Key, store: LevelStore | None = None
) -> Level:
    """Train one ticket as a level, unless the store has it: a step of `imp`, and all of a control.

    Training gets copies, so that it may donate every buffer. A CollapseWarning names leaves that keep no weight.

    Args:
      train: as for `imp`.
      ticket: the ticket to train.
      index: the number of the level.
      density: its density, for the record.
      key: a typed PRNG key.
      store: keeps finished levels, such as `Store(directory)`.

    Returns:
      The level.

    Raises:
      CheckpointError: the store holds, at this index, a level that was trained from another ticket or key.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from jaxticket.typing import Trained
      >>> ticket = Ticket({"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([True, False])})
      >>> train = lambda params, state, mask, key, *, step, opt_state: Trained(params, state, {})
      >>> train_level(train, ticket, index=0, density=0.5, key=jax.random.key(0)).trained.params
      {'w': Array([1., 0.], dtype=float32)}
    """
    check_key("key", key)
    ticket = fit_mask(ticket)
    warn_of_collapse(ticket.mask)
    trained = None if store is None else store.load(index, ticket, key=key)
    if trained is None:
        state, mask, opt_state = copy((ticket.state, ticket.mask, ticket.opt_state))
        trained = train(rewind_ticket(ticket), state, mask, key, step=ticket.step, opt_state=opt_state)
        if store is not None:
            store.save(index, ticket, trained, key=key)
    return Level(index, density, ticket, trained)


def level_keys(index: int | jax.Array, *, key: Key) -> tuple[Key, Key]:
    """Return the keys with which level `index` of imp(key=key) trains and prunes.

    A control trained with the same key sees the same examples in the same order as the ticket of that level.

    Args:
      index: the number of the level.
      key: the key of the search.

    Returns:
      The keys for training and for pruning.
    """
    check_key("key", key)
    if not isinstance(index, jax.core.Tracer):
        check_count(0, index=index)
    train_key, prune_key = jax.random.split(jax.random.fold_in(key, index))
    return train_key, prune_key


def as_densities(densities: Any) -> tuple[Density, ...]:
    """Return the densities of levels, numbers as floats. Raises InputError for anything but a sequence."""
    if not isinstance(densities, Iterable) or isinstance(densities, str):
        raise InputError(f"densities={densities!r:.80} is not a sequence; pass one, such as schedules.levels(18)")
    return tuple(known(d) for d in densities)
