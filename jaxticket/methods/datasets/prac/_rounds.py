"""The search of PrAC: train on a part, prune, rewind, choose the next part.

A round trains the ticket on a part of the examples. It stops as soon as the mask that it would be pruned to has
settled, prunes and rewinds, and chooses the part for the next round. These are examples that were forgotten while it
trained, and those that the dense network and the sparse one see differently. The result is a ticket, to be trained on
all examples.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxticket import data_pruning, loops, schedules, tickets, training
from jaxticket.data_pruning import Tracked
from jaxticket.loops import LevelStore, PruneFn
from jaxticket.methods.datasets.prac import _stopping
from jaxticket.methods.datasets.prac._sets import Outcome, prac_set
from jaxticket.methods.datasets.prac._stopping import Plan
from jaxticket.tickets import Ticket, rewind, rewinds
from jaxticket.tickets._store import fingerprint
from jaxticket.tickets._ticket import copy
from jaxticket.training import FitFn
from jaxticket.training._subsets import size_of
from jaxticket.typing import Key, Mask, Params, PyTree, Trained


class Round(NamedTuple):
    """A round: the examples that it trained on, its length, and its results."""

    level: loops.Level  # its ticket is what was trained; metrics: epochs, allowed, examples, distances, best, loss
    subset: jax.Array  # (examples,) bool: the examples that it was trained on
    outcome: Outcome
    ticket: Ticket  # pruned and rewound: what the next round trains

    @property
    def cost(self) -> tuple[int, int]:
        """The number of epochs, and of examples in each."""
        return self.level.trained.metrics["epochs"], self.level.trained.metrics["examples"]


ChooseFn = Callable[[Outcome], jax.Array]  # the outcome of a round -> (examples,) bool, what the next one trains on
PredictFn = Callable[[Params, PyTree], jax.Array]  # parameters, model state -> (examples,) classes
EvaluateFn = Callable[[Params, PyTree], float]  # parameters, model state -> accuracy on validation examples


class Best(NamedTuple):
    """The weights and the model state of the epoch with the highest accuracy on validation examples."""

    params: Params
    model: PyTree


class _Carried(NamedTuple):
    """The model state of a round's training, and the other values that it must remember."""

    tracked: Tracked
    best: Best
    candidate: Mask  # the mask to which the last epoch would have been pruned
    subset: jax.Array  # (examples,) bool: the examples that it trains on


def prac(
    fit: FitFn,
    ticket: Ticket,
    plan: Plan = Plan(),
    *,
    recipe: training.Recipe,
    predict: PredictFn,
    evaluate: EvaluateFn,
    choose: ChooseFn | None = None,
    measures: Sequence[str] = ("el2n",),
    prune: PruneFn = loops.prune_by(),
    key: Key,
    store: LevelStore | None = None,
    checkpoint: tickets.StepCheckpoint | None = None,
) -> Iterator[Round]:
    """Search for a ticket on PrAC sets (Zhang et al., "Less Data is More", ICML 2021).

    With a `choose` that keeps all examples and tolerance 0 it is iterative pruning on the full data. Each round starts
    from the weights of `ticket`, or of `plan.rewind_step`, with a fresh optimizer. Its learning rates are those of a
    whole training, in less time. The weights of the epoch of the highest `evaluate` predict; those of round 0 are the
    dense reference.

    Args:
      fit: training.fit(recipe, observe=observe) for one training at a time, whose observer sees the examples
        as the loss does, in training mode and augmented, and the `measures` named.
      ticket: the weights to begin with, and the mask of the weights that can be pruned.
      plan: the length and the end of rounds.
      recipe: its learning-rate schedule is that of plan.epochs epochs of ⌈examples / batch⌉ steps.
      predict: (params, state) -> classes of all training examples, in evaluation mode, without augmentation.
      evaluate: (params, state) -> accuracy on validation examples.
      choose: chooses the next part; `functools.partial(prac_set, minimum=0.2)` by default.
      measures: the measures that the statistics keep.
      prune: as for `loops.imp`.
      key: folded with the round.
      store: keeps finished rounds.
      checkpoint: keeps the state at ends of epochs.

    Yields:
      Round, as soon as it is trained.

    Raises:
      InputError: a plan out of range, before anything is trained; a choice that is not a subset.
      CheckpointError: the store holds rounds of another search.
    """
    plan = _stopping.check_plan(plan, recipe)
    choose = functools.partial(prac_set, minimum=0.2) if choose is None else choose
    search = _Search(
        fit=fit,
        recipe=recipe,
        plan=plan,
        evaluate=evaluate,
        prune=prune,
        measures=measures,
        checkpoint=checkpoint,
    )
    return _rounds(search, ticket, predict, choose, key, store)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Search:
    """The arguments that all rounds share."""

    fit: FitFn
    recipe: training.Recipe
    plan: Plan
    evaluate: EvaluateFn
    prune: PruneFn
    measures: Sequence[str]
    checkpoint: tickets.StepCheckpoint | None


def _rounds(
    search: _Search, ticket: Ticket, predict: PredictFn, choose: ChooseFn, key: Key, store: LevelStore | None
) -> Iterator[Round]:
    plan, recipe = search.plan, search.recipe
    densities = schedules.levels(plan.rounds + 1, rate=plan.rate)
    subset, dense, outcome = jnp.ones(recipe.examples, bool), None, None
    for index in range(plan.rounds):
        if outcome is not None:
            subset = choose(outcome)
            size_of(subset, recipe.examples)
        train_key, prune_key = loops.level_keys(index, key=key)
        prune = functools.partial(search.prune, density=densities[index + 1], key=prune_key)
        least = -(-plan.rewind_step // _stopping.epoch_steps(recipe, recipe.examples)) if index == 0 else 1
        train = functools.partial(_train, search, prune, least)
        carried = dataclasses.replace(ticket, state=_begin(search, ticket, subset), opt_state=None)
        level = loops.train_level(train, carried, index=index, density=densities[index], key=train_key, store=store)
        best = level.trained.state.best
        sparse = predict(best.params, best.model)
        dense = sparse if dense is None else dense
        outcome = Outcome(index, level.trained.state.tracked.statistics, dense, sparse)
        mask = prune(level.trained.params, ticket.mask)
        start = _early(search, ticket, train_key) if index == 0 and plan.rewind_step else ticket
        ticket = rewinds.weights()(start, level.trained, mask)
        yield Round(level, subset, outcome, ticket)


def _begin(search: _Search, ticket: Ticket, subset: jax.Array) -> _Carried:
    statistics = data_pruning.init(search.recipe.examples, search.measures)
    params = rewind(ticket)
    return _Carried(Tracked(ticket.state, statistics), Best(params, ticket.state), ticket.mask, subset)


def _early(search: _Search, ticket: Ticket, key: Key) -> Ticket:
    """Return the ticket at plan.rewind_step of round 0, trained again by the same program to the same bits."""
    step, everything = search.plan.rewind_step, jnp.ones(search.recipe.examples, bool)
    state, mask = copy((_begin(search, ticket, everything).tracked, ticket.mask))
    fitted = search.fit(rewind(ticket), state, mask, key, step=0, steps=step, subset=everything)
    return dataclasses.replace(ticket, params=fitted.params, state=fitted.state.model, step=ticket.step + step)


def _train(
    search: _Search,
    prune: Callable[[Params, Mask], Mask],
    least: int,
    params: Params,
    carried: _Carried,
    mask: Mask,
    key: Key,
    *,
    step: int,
    opt_state: PyTree | None,
) -> Trained:
    """Train a round, for `least` epochs or more. It begins the schedule again, whatever its rewind point."""
    del step
    size, examples = int(carried.subset.sum()), search.recipe.examples
    steps = _stopping.epoch_steps(search.recipe, size)
    whole = search.plan.epochs * _stopping.epoch_steps(search.recipe, examples)
    allowed = _stopping.allowed_epochs(search.plan.epochs, size, examples)
    warmup = search.plan.warmup * size // examples
    fit = functools.partial(search.fit, subset=carried.subset, stretch=whole / (allowed * steps))
    at, distances, best, loss = 0, list[float](), -math.inf, math.nan
    origin = fingerprint(params, carried, mask, key, allowed, whole) if search.checkpoint else ""
    like = Ticket(params, mask, state=carried, opt_state=jax.eval_shape(search.recipe.fresh, params))
    if search.checkpoint and (saved := search.checkpoint.load(origin, like)):
        reached, values = saved
        params, carried, opt_state, at = reached.params, reached.state, reached.opt_state, reached.step
        distances, best, loss = values["distances"], values["best"], values["loss"]
    while at < allowed and (at < least or not _has_settled(distances, search.plan.tolerance, warmup)):
        fitted = fit(params, carried.tracked, mask, key, step=at * steps, steps=steps, opt_state=opt_state)
        params, tracked, opt_state, loss = fitted
        candidate, accuracy = prune(params, mask), search.evaluate(params, tracked.model)
        if at > 0:
            distances.append(float(_stopping.mask_distance(params, mask, carried.candidate, candidate)))
        carried = carried._replace(tracked=tracked, candidate=candidate)
        if accuracy > best:
            best = accuracy
            carried = carried._replace(best=copy(Best(params, tracked.model)))  # training donates the others
        at += 1
        if search.checkpoint and search.checkpoint.due():
            reached = Ticket(params, mask, at, carried, opt_state)
            search.checkpoint.save(origin, reached, {"distances": distances, "best": best, "loss": loss})
    metrics = {"epochs": at, "allowed": allowed, "examples": size, "distances": distances, "best": best, "loss": loss}
    return Trained(params, carried, metrics)


def _has_settled(distances: list[float], tolerance: float, warmup: int) -> bool:
    state, settled = _stopping.init_settling(), jnp.zeros((), bool)
    for epoch, distance in enumerate(distances, 1):
        state, settled = _stopping.settle(state, distance, tolerance=tolerance, keep=epoch > warmup)
    return bool(settled)
