"""The report of a search: table, plot, page, claims and event files."""

from collections.abc import Sequence

from experiments.claims import levels
from experiments.reports import tensorboard
from experiments.runs.records import LevelRecord
from experiments.studies.imp import claims
from experiments.studies.imp.config import Config
from experiments.studies.imp.search import BRANCHES
from experiments.training.problems import Problem


def report(config: Config, problem: Problem, records: Sequence[LevelRecord]) -> None:
    """Writes and prints the table, the plot, the page, the claims, and with --tensorboard the event files."""
    levels.report(config, records, BRANCHES, title=title(config, problem), claims=claims.of_search(records))
    if config.tensorboard:
        tensorboard.write(config.folder() / "tensorboard", tensorboard.over_levels(records))


def title(config: Config, problem: Problem) -> str:
    """Of the table and the plot."""
    examples = sum(len(split.y) for split in problem.dataset)
    return f"{config.model} on {config.data} ({examples:,} examples), run {config.hash()}"
