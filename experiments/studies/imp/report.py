"""The report of a search: table, plot, page, claims and event files."""

from collections.abc import Sequence

from experiments.claims import levels
from experiments.reports import tables, tensorboard
from experiments.runs.records import LevelRecord
from experiments.studies.imp import claims
from experiments.studies.imp.config import Config
from experiments.studies.imp.search import BRANCHES
from experiments.training.problems import Problem
from jaxticket import tickets


def report(config: Config, problem: Problem, records: Sequence[LevelRecord]) -> None:
    """Write and print the table, the plot, the page, the claims, and with --tensorboard the event files."""
    last = config.levels - 1
    ticket = tickets.Store(config.folder() / "replicate_0" / BRANCHES[0]).path(last)
    levels.report(
        config,
        records,
        BRANCHES,
        title=title(config, problem),
        claims=claims.of_search(records),
        layers=tables.Layers(f"Weights kept by layer: level {last}, replicate 1", ticket),
    )
    if config.tensorboard:
        tensorboard.write(config.folder() / "tensorboard", tensorboard.over_levels(records))


def title(config: Config, problem: Problem) -> str:
    """Return the title of the table and the plot."""
    examples = sum(len(split.y) for split in problem.dataset)
    return f"{config.model} on {config.data} ({examples:,} examples), run {config.hash()}"
