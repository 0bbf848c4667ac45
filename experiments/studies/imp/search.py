"""The search for winning tickets: replicates of levels, in each the ticket and two controls."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

from experiments.reports import tables
from experiments.runs.records import LevelRecord
from experiments.studies.imp.config import Config
from experiments.training.levels import groups, search_levels, train_levels
from experiments.training.problems import Problem
from experiments.training.trainer import Lane
from jaxticket import diagnostics, filters, loops, masks, schedules, scopes, tickets
from jaxticket.errors import DivergedError
from jaxticket.tickets import rewinds
from jaxticket.typing import Density, PyTree

BRANCHES = ("ticket", "random_reinit", "random_ticket")


def densities(config: Config, mask: PyTree) -> Sequence[Density]:
    """Return the density of each level: a number, or with --scope layer one for each layer, as in the paper."""
    if config.scope == "global":
        return schedules.levels(config.levels, rate=config.rate)
    hidden, output = (schedules.levels(config.levels, rate=rate) for rate in (config.rate, config.rate / 2))

    def of(level: int) -> Density:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: (output if path[0].key == "output" else hidden)[level], mask
        )

    return [of(level) for level in range(config.levels)]


class Keys(NamedTuple):
    """The keys of one replicate, one for each purpose."""

    init: jax.Array
    early: jax.Array  # training up to the rewind point
    search: jax.Array
    reinit: jax.Array
    shuffle: jax.Array


def keys_of(seed: int, replicate: int) -> Keys:
    """Return the keys of a replicate of the run with this seed."""
    return Keys(*jax.random.split(jax.random.fold_in(jax.random.key(seed), replicate), 5))


def search(config: Config, problem: Problem, folder: pathlib.Path) -> Iterator[LevelRecord]:
    """Yield the records of all replicates, which are trained in one program where that is faster, else in turn."""
    for numbers in groups(problem.trainer, config.replicates):
        yield from replicates(config, problem, numbers, folder)


def replicates(config: Config, problem: Problem, numbers: Sequence[int], folder: pathlib.Path) -> Iterator[LevelRecord]:
    """Yield the records of these replicates: for each level those of the tickets, then of each control."""
    keys = [keys_of(config.seed, number) for number in numbers]
    homes = [folder / f"replicate_{number}" for number in numbers]
    stores = {branch: [tickets.Store(home / branch) for home in homes] for branch in BRANCHES}
    with _named(numbers, 0, "ticket"):
        points = rewind_points(config, problem, [home / "rewind_point" for home in homes], numbers)
    levels = search_levels(
        problem.train,
        points,
        densities=densities(config, points[0].mask),
        prune=loops.prune_by(
            scope=scopes.tree() if config.scope == "global" else scopes.leaf(), minimum=config.minimum
        ),
        rewind=_policy(config, problem.steps),
        keys=[key.search for key in keys],
        stores=stores["ticket"],
    )
    for index in range(config.levels):
        with _named(numbers, index, "ticket"):
            searched = next(levels)
        yield from _records(numbers, "ticket", searched)
        for branch in BRANCHES[1:]:
            controls = [_control(branch, problem, level, key) for level, key in zip(searched, keys, strict=True)]
            with _named(numbers, index, branch):
                trained = train_levels(
                    problem.train,
                    controls,
                    index=index,
                    density=searched[0].density,
                    keys=[loops.level_keys(index, key=key.search)[0] for key in keys],
                    stores=stores[branch],
                )
            yield from _records(numbers, branch, trained)


def _control(branch: str, problem: Problem, level: loops.Level, keys: Keys) -> tickets.Ticket:
    if branch == "random_reinit":
        key = jax.random.fold_in(keys.reinit, level.index)
        return loops.branches.random_reinit(level.ticket, problem.init, key=key)
    return loops.branches.random_ticket(level.ticket, key=jax.random.fold_in(keys.shuffle, level.index))


@contextlib.contextmanager
def _named(numbers: Sequence[int], level: int, branch: str) -> Iterator[None]:
    """Name the replicate and the level of a training that diverges."""
    try:
        yield
    except DivergedError as error:
        first = numbers[min(error.replicates, default=0)]
        raise DivergedError(f"replicate {first}, level {level}, {tables.plain(branch)}: {error}") from error


def rewind_points(
    config: Config, problem: Problem, paths: Sequence[pathlib.Path], numbers: Sequence[int]
) -> list[tickets.Ticket]:
    """Return the tickets to search from: dense networks at the rewind step, trained or loaded."""
    points = [_rewind_point(config, problem, number) for number in numbers]
    missing = [at for at, path in enumerate(paths) if not path.exists()]
    lanes = [
        Lane(points[at].params, points[at].state, None, keys_of(config.seed, numbers[at]).early, points[at].mask)
        for at in missing
    ]
    trained = problem.trainer.train(lanes, steps=problem.rewind_step) if missing else []
    for at, (lane, _) in zip(missing, trained, strict=True):
        points[at] = dataclasses.replace(points[at], params=lane.params, state=lane.state, opt_state=lane.opt_state)
        tickets.save(paths[at], points[at])
    points = [point if at in missing else tickets.load(paths[at], like=point) for at, point in enumerate(points)]
    return points if config.rewind == "everything" else [dataclasses.replace(p, opt_state=None) for p in points]


def _rewind_point(config: Config, problem: Problem, number: int) -> tickets.Ticket:
    """Return a ticket like the rewind point of a replicate, with the first weights in place of its own."""
    params, state = problem.init(keys_of(config.seed, number).init)
    mask = filters.full_mask(params, filters.weights())
    meta = {"config": config.identity(), "config_hash": config.hash(), "replicate": number, "data": config.data}
    return tickets.Ticket(params, mask, problem.rewind_step, state, jax.eval_shape(problem.fresh, params), meta)


def _policy(config: Config, steps: int) -> rewinds.Rewind:
    return {
        "weights": rewinds.weights(),
        "everything": rewinds.everything(),
        "learning-rate": rewinds.learning_rate(),
        "fine-tune": rewinds.fine_tune(steps),
    }[config.rewind]


def record(replicate: int, branch: str, level: loops.Level) -> LevelRecord:
    """Return the record of a level."""
    mask = level.ticket.mask
    density = masks.summary(level.ticket.params, mask).maskable.density
    collapsed = sorted(diagnostics.layer_collapse([mask]))
    return LevelRecord(level.trained.metrics, replicate, level.index, branch, density, collapsed)


def _records(numbers: Sequence[int], branch: str, levels: Sequence[loops.Level]) -> Iterator[LevelRecord]:
    return (record(number, branch, level) for number, level in zip(numbers, levels, strict=True))
