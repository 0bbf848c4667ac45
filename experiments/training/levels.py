"""The levels of a search of several replicates, whose tickets are trained together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.training.trainer import Lane, Trainer
from jaxticket import loops, tickets, training
from jaxticket.errors import DivergedError
from jaxticket.loops import Level, PruneFn
from jaxticket.tickets import Ticket
from jaxticket.tickets.rewinds import Rewind
from jaxticket.typing import Density, Key, Mask, Params, PyTree, Trained, TrainFn


class Start(NamedTuple):
    """The start of a training: the arguments of a `TrainFn`."""

    params: Params
    state: PyTree
    mask: Mask
    key: Key
    step: int
    opt_state: PyTree


TrainAllFn = Callable[[Sequence[Start]], list[Trained]]  # a `TrainFn` of several replicates
EvaluateFn = Callable[[Params, PyTree], Mapping[str, Any]]


def train_all(trainer: Trainer, *, steps: int, evaluate: EvaluateFn) -> TrainAllFn:
    """Return the function that trains replicates for `steps` steps from the step they share, and evaluates each."""

    def train(starts: Sequence[Start]) -> list[Trained]:
        (step,) = {start.step for start in starts}
        lanes = [Lane(s.params, s.state, s.opt_state, s.key, s.mask) for s in starts]
        trained = trainer.train(lanes, step=step, steps=steps)
        return [Trained(lane.params, lane.state, _metrics(lane, loss, evaluate)) for lane, loss in trained]

    return train


def train_levels(
    train: TrainAllFn,
    chosen: Sequence[Ticket],
    *,
    index: int,
    density: Density,
    keys: Sequence[Key],
    stores: Sequence[tickets.Store],
) -> list[Level]:
    """Train the tickets of a level, one a replicate, but for those that are stored: `loops.train_level` of several.

    Raises DivergedError with the numbers of the replicates among the tickets.
    """
    trained = [store.load(index, ticket, key=key) for store, ticket, key in zip(stores, chosen, keys, strict=True)]
    missing = [number for number, known in enumerate(trained) if known is None]
    if missing:
        try:
            results = train([_start(chosen[number], keys[number]) for number in missing])
        except DivergedError as error:
            own = tuple(missing[lane] for lane in error.replicates if lane < len(missing))
            raise DivergedError(str(error), replicates=own or (missing[0],)) from error
        for number, result in zip(missing, results, strict=True):
            stores[number].save(index, chosen[number], result, key=keys[number])
            trained[number] = result
    return [Level(index, density, ticket, result) for ticket, result in zip(chosen, trained, strict=True)]


def search_levels(
    train: TrainAllFn,
    begin: Sequence[Ticket],
    *,
    densities: Sequence[Density],
    prune: PruneFn,
    rewind: Rewind,
    keys: Sequence[Key],
    stores: Sequence[tickets.Store],
) -> Iterator[list[Level]]:
    """Search as `loops.imp` does, for several replicates at once: yields the levels of all of them."""
    levels: Sequence[Level | None] = [None] * len(begin)
    chosen = list(begin)
    for index, density in enumerate(densities):
        chosen = [
            loops.next_ticket(
                ticket,
                None if level is None else level.trained,
                index=index,
                density=density,
                prune=prune,
                rewind=rewind,
                key=key,
            )
            for ticket, level, key in zip(chosen, levels, keys, strict=True)
        ]
        train_keys = [loops.level_keys(index, key=key)[0] for key in keys]
        levels = train_levels(train, chosen, index=index, density=density, keys=train_keys, stores=stores)
        yield levels


def as_trained(trained: Trained) -> TrainFn:
    """Return the `TrainFn` that returns this training, for functions that would run it."""
    return lambda *_, **__: trained


def groups(trainer: Trainer, replicates: int) -> list[list[int]]:
    """Return the numbers of the replicates that are searched side by side: all of them, or each alone."""
    everyone = list(range(replicates))
    return [everyone] if trainer.stacked else [[number] for number in everyone]


def copied(tree: PyTree) -> PyTree:
    """Return the tree in buffers of its own."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)


def _start(ticket: Ticket, key: Key) -> Start:
    """Return the start of a ticket as copies, so that training may donate every buffer."""
    state, mask, opt_state = copied((ticket.state, ticket.mask, ticket.opt_state))
    return Start(tickets.rewind(ticket), state, mask, key, ticket.step, opt_state)


def _metrics(lane: Lane, loss: float, evaluate: EvaluateFn) -> dict[str, float]:
    skipped = training.nonfinite.count_skipped(lane.opt_state)
    counted = {} if skipped is None else {"skipped_steps": skipped}
    metrics = {"loss": loss, **counted, **evaluate(lane.params, lane.state)}
    return {name: float(value) for name, value in metrics.items()}
