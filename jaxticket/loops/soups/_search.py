"""The search of sparse model soups, and the ways to merge members into one network."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxticket._checks import check_count, check_number, known
from jaxticket.errors import InputError
from jaxticket.loops._imp import imp
from jaxticket.loops._level import Level, LevelStore, PruneFn
from jaxticket.loops._prune import prune_by
from jaxticket.loops.soups._averages import average, count_members, soup
from jaxticket.tickets import rewinds
from jaxticket.tickets._ticket import Ticket
from jaxticket.typing import Density, Key, Mask, Params, PyTree, Trained, TrainFn

# soup, averaged model state -> the state to use, as `recalibrate` makes it
StateFn = Callable[[Params, PyTree], PyTree]


class Soup(NamedTuple):
    """An average: its parameters, its model state, and the weight of each member, which add up to 1."""

    params: Params
    state: PyTree
    weights: list[float]


MergeFn = Callable[[Trained, Mask], Soup]  # trained members along a leading axis, and the mask they share -> their soup
MeasureFn = Callable[[Trained, Soup], dict[str, Any]]  # members and soup -> what is recorded of them, JSON-able


def phases(density: float, count: int) -> tuple[float, ...]:
    """Return the densities of `count` phases that each keep the same part of the survivors and end at `density`.

    Args:
      density: the fraction kept after the last phase.
      count: the number of phases.

    Returns:
      The densities.

    Raises:
      InputError: a density outside (0, 1), or no phases.

    Examples:
      >>> [round(1 - d, 4) for d in phases(0.1, 3)]
      [0.5358, 0.7846, 0.9]
    """
    check_number(density=density)
    if not 0 < known(density) < 1:
        raise InputError(f"density={density} must lie between 0 and 1: the fraction kept after the last phase")
    check_count(1, count=count)
    return tuple(density ** (phase / count) for phase in range(1, count + 1))


def uniform(*, state: StateFn | None = None) -> MergeFn:
    """Average all members.

    Args:
      state: state(params, averaged) -> the soup's model state, as `recalibrate` makes it. By default it is the average
        of the members' states. That is wrong for batch statistics: the soup's activations are not an average of theirs.

    Returns:
      The merge function.
    """

    def merge(trained: Trained, mask: Mask) -> Soup:
        count = count_members(trained.params)
        return _soup(trained, mask, np.ones(count, np.float32), state)

    return merge


def greedy(evaluate: Callable[[Params, PyTree], Any], *, state: StateFn | None = None) -> MergeFn:
    """Average the best member with each next one that does not make the average worse (Wortsman et al., 2022).

    Members come from the best to the worst, equals in their order. A member joins if the average with it evaluates at
    least as well as the one without. Every member is ranked with the state that `state` makes for it, as the authors of
    sparse model soups recalibrate each candidate: its own batch statistics are not used.

    Args:
      evaluate: evaluate(params, state) -> accuracy on validation examples; compile it with jax.jit.
      state: as for `uniform`; used on every member and every average that is tried.

    Returns:
      The merge function.
    """

    def merge(trained: Trained, mask: Mask) -> Soup:
        count = count_members(trained.params)
        alone = [_soup(trained, mask, np.eye(count, dtype=np.float32)[index], state) for index in range(count)]
        accuracies = [float(evaluate(member.params, member.state)) for member in alone]
        best, *others = sorted(range(count), key=lambda index: -accuracies[index])
        kept, accuracy = alone[best], accuracies[best]
        chosen = np.eye(count, dtype=np.float32)[best]
        for index in others:
            tried = chosen.copy()
            tried[index] = 1
            candidate = _soup(trained, mask, tried, state)
            if (value := float(evaluate(candidate.params, candidate.state))) >= accuracy:
                chosen, kept, accuracy = tried, candidate, value
        return kept

    return merge


def soup_train(members: TrainFn, *, merge: MergeFn = uniform(), measure: MeasureFn | None = None) -> TrainFn:
    """Return the `TrainFn` that trains members and merges them into a soup, for `search`, `imp` and `train_level`.

    Args:
      members: trains copies of one ticket, as `at_once` or `in_turn` make it.
      merge: `uniform()`, or `greedy(evaluate)`.
      measure: (members, soup) -> more metrics. It is the only place where the members can still be looked at.

    Returns:
      The `TrainFn`. Its metrics are "members", the metrics of the members as lists, "weights", those of the soup, and
      those of `measure`.
    """

    def train(params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, opt_state: PyTree | None) -> Trained:
        trained = members(params, state, mask, key, step=step, opt_state=opt_state)
        soup = merge(trained, mask)
        measured = {} if measure is None else measure(trained, soup)
        return Trained(soup.params, soup.state, {"members": trained.metrics, "weights": soup.weights, **measured})

    return train


def search(
    members: TrainFn,
    ticket: Ticket,
    *,
    densities: Sequence[Density],
    prune: PruneFn = prune_by(),
    merge: MergeFn = uniform(),
    measure: MeasureFn | None = None,
    key: Key,
    store: LevelStore | None = None,
) -> Iterator[Level]:
    """Search by sparse model soups: each phase prunes, trains members, and hands their soup to the next one.

    It is `imp` with the training of `soup_train` and the learning rate rewound, so it resumes and stores as that does.

    Args:
      members: trains copies of one ticket, as `at_once` or `in_turn` make it.
      ticket: the dense network, trained; the schedule of each phase begins at its step.
      densities: the density of each phase, such as phases(0.05, 3). The first prunes the ticket's own weights.
      prune: as for `imp`.
      merge: `uniform()`, or `greedy(evaluate)`.
      measure: as for `soup_train`.
      key: as for `imp`.
      store: as for `imp`.

    Yields:
      Level(index, density, ticket, trained), where `trained` is the soup.

    Raises:
      InputError: as `imp`.
      CheckpointError: as `imp`.
    """
    train = soup_train(members, merge=merge, measure=measure)
    rewind = rewinds.learning_rate()
    return imp(train, ticket, densities=densities, prune=prune, rewind=rewind, key=key, store=store)


def _soup(trained: Trained, mask: Mask, chosen: np.ndarray, state: StateFn | None) -> Soup:
    weights = chosen / chosen.sum()
    params = soup(trained.params, mask, weights=weights)
    averaged = average(trained.state, weights) if jax.tree.leaves(trained.state) else trained.state
    return Soup(params, averaged if state is None else state(params, averaged), weights.tolist())
