"""The trainings of a branch: levels of a finished search, each with one thing changed."""

import dataclasses
import zlib
from collections.abc import Callable, Iterator, Sequence

import jax

from experiments.reports import searches
from experiments.runs.records import LevelRecord
from experiments.studies.imp import variants
from experiments.studies.imp.config import Config
from experiments.studies.imp.search import keys_of, record, rewind_points
from experiments.training import problems
from experiments.training.levels import train_levels
from jaxticket import loops, tickets
from jaxticket.errors import InputError

ProblemOf = Callable[[Config], problems.Problem]


def finished(config: variants.Config) -> list[LevelRecord]:
    """Return the records of the search's tickets at the wanted levels."""
    records = searches.read(config.run / "metrics.jsonl", "ticket")
    levels = {record.level for record in records}
    if not levels:
        raise InputError(f"{config.run} has no finished level; run the search first")
    if missing := sorted(set(config.levels) - levels):
        raise InputError(f"--levels names {missing[0]}, but the search has the levels 0 to {max(levels)}")
    return [record for record in records if not config.levels or record.level in config.levels]


def records(
    config: variants.Config,
    search: Config,
    levels: Sequence[LevelRecord],
    variants: Sequence[variants.Variant],
    problem_of: ProblemOf,
) -> Iterator[LevelRecord]:
    for original in levels:
        if config.branch != "transfer":
            yield original
        for variant in variants:
            yield _train(config, search, variant, original, problem_of)


def _train(
    config: variants.Config,
    search: Config,
    variant: variants.Variant,
    original: LevelRecord,
    problem_of: ProblemOf,
) -> LevelRecord:
    index, level = original.replicate, original.level
    folder = config.run / f"replicate_{index}"
    store = tickets.Store(folder / "ticket")
    at = "rewind_point" if variant.start == search else f"rewind_point_{variant.start.rewind_step}"
    (point,) = rewind_points(variant.start, problem_of(variant.start), [folder / at], [index])
    mask = tickets.load(store.path(level)).mask
    ticket = dataclasses.replace(point, mask=mask, opt_state=None)
    keys = keys_of(search.seed, index)
    key = jax.random.fold_in(jax.random.fold_in(keys.reinit, zlib.crc32(variant.name.encode())), level)
    before = variants.SearchedLevel(ticket, lambda: store.load_trained(max(level - 1, 0), like=point))
    problem = problem_of(variant.search)
    train_key, _ = loops.level_keys(level, key=keys.search)  # the examples come in the ticket's order
    (trained,) = train_levels(
        problem.train,
        [variant.make(before, problem, key)],
        index=level,
        density=original.density,
        keys=[train_key],
        stores=[tickets.Store(folder / "branches" / config.name() / variant.name)],
    )
    line = record(index, variant.name, trained)
    metrics = {**line.metrics, "branch_density": line.density}
    return dataclasses.replace(line, density=original.density, metrics=metrics)  # in the ticket's row
