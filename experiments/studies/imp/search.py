"""The search for winning tickets: replicates of levels, in each the ticket and two controls."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from experiments.reports import tables
from experiments.studies.imp.config import Config
from experiments.training.problems import Problem
from experiments.training.together import Together
from jaxticket import diagnostics, filters, loops, masks, schedules, scopes, tickets
from jaxticket.errors import DivergedError
from jaxticket.tickets import rewinds
from jaxticket.typing import Density, PyTree

BRANCHES = ("ticket", "random_reinit", "random_ticket")


def densities(config: Config, mask: PyTree) -> Sequence[Density]:
    """The density of each level: a number, or with --scope layer one a layer, as in the paper."""
    if config.scope == "global":
        return schedules.levels(config.levels, rate=config.rate)
    hidden, output = (schedules.levels(config.levels, rate=rate) for rate in (config.rate, config.rate / 2))

    def of(level: int) -> Density:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: (output if path[0].key == "output" else hidden)[level], mask
        )

    return [of(level) for level in range(config.levels)]


class Keys(NamedTuple):
    """Of one replicate, each for a purpose of its own."""

    init: jax.Array
    early: jax.Array  # training up to the rewind point
    search: jax.Array
    reinit: jax.Array
    shuffle: jax.Array


def keys_of(config: Config, index: int) -> Keys:
    """The keys of a replicate."""
    return Keys(*jax.random.split(jax.random.fold_in(jax.random.key(config.seed), index), 5))


def replicate(config: Config, problem: Problem, index: int, folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The records of one replicate: for each level the ticket and both controls, each as soon as it is trained."""
    keys = keys_of(config, index)
    scope = scopes.tree() if config.scope == "global" else scopes.leaf()
    stores = {branch: tickets.Store(folder / branch) for branch in BRANCHES}
    levels = loops.imp(
        problem.train,
        ticket := rewind_point(config, problem, folder / "rewind_point", index),
        densities=densities(config, ticket.mask),
        prune=loops.prune_by(scope=scope, minimum=config.minimum),
        rewind=_policy(config, problem.steps),
        key=keys.search,
        store=stores["ticket"],
    )
    for level in levels:
        yield record(index, "ticket", level)
        train_key, _ = loops.level_keys(keys.search, level.index)
        controls = {
            "random_reinit": loops.branches.random_reinit(
                level.ticket, problem.init, key=jax.random.fold_in(keys.reinit, level.index)
            ),
            "random_ticket": loops.branches.random_ticket(
                level.ticket, key=jax.random.fold_in(keys.shuffle, level.index)
            ),
        }
        for branch, control in controls.items():
            trained = loops.train_level(
                problem.train, control, index=level.index, density=level.density, key=train_key, store=stores[branch]
            )
            yield record(index, branch, trained)


def search(config: Config, problem: Problem, folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The records of all replicates, which are trained in one program where that is faster, else in turn."""
    folders = [folder / f"replicate_{index}" for index in range(config.replicates)]
    if problem.fit_together is None:
        each = (replicate(config, problem, index, path) for index, path in enumerate(folders))
        return itertools.chain.from_iterable(_named(index, records) for index, records in enumerate(each))
    together = Together(problem.fit_together, config.replicates)
    problems = (problem._replace(fit=together.fit_of(index)) for index in range(config.replicates))
    return together.advance([_named(i, replicate(config, p, i, folders[i])) for i, p in enumerate(problems)])


def _named(index: int, records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The records of a replicate; they come in order, so that their number tells which training diverges."""
    done = 0
    try:
        for found in records:
            yield found
            done += 1
    except DivergedError as error:
        level, branch = divmod(done, len(BRANCHES))
        where = f"replicate {index}, level {level}, {tables.plain(BRANCHES[branch])}"
        raise DivergedError(f"{where}: {error}") from error


def rewind_point(config: Config, problem: Problem, path: pathlib.Path, index: int) -> tickets.Ticket:
    """The ticket to search from: the dense network at the rewind step, loaded if a former process trained it."""
    keys = keys_of(config, index)
    params, state = problem.init(keys.init)
    mask = filters.full_mask(params, filters.weights())
    meta = {"config": config.identity(), "config_hash": config.hash(), "replicate": index, "data": config.data}
    like = tickets.Ticket(params, mask, problem.rewind_step, state, jax.eval_shape(problem.fresh, params), meta)
    if path.exists():
        point = tickets.load(path, like=like)
    else:
        early = problem.fit(params, state, mask, keys.early, step=0, steps=problem.rewind_step, opt_state=None)
        point = dataclasses.replace(like, params=early.params, state=early.state, opt_state=early.opt_state)
        tickets.save(path, point)
    return point if config.rewind == "everything" else dataclasses.replace(point, opt_state=None)


def _policy(config: Config, steps: int) -> rewinds.Rewind:
    return {
        "weights": rewinds.weights(),
        "everything": rewinds.everything(),
        "learning-rate": rewinds.learning_rate(),
        "fine-tune": rewinds.fine_tune(steps),
    }[config.rewind]


def record(index: int, branch: str, level: loops.Level) -> dict[str, Any]:
    mask = level.ticket.mask
    density = masks.summary(level.ticket.params, mask).maskable.density
    found = {"density": density, "collapsed": sorted(diagnostics.layer_collapse([mask]))}
    return {"replicate": index, "level": level.index, "branch": branch, **found, **level.trained.metrics}
