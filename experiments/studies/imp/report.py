"""The report of a search: table, plot, page, claims and event files."""

import dataclasses
from collections.abc import Sequence

from experiments.claims import store
from experiments.reports import searches, tensorboard
from experiments.runs.records import Record
from experiments.studies.imp import claims
from experiments.studies.imp.config import Config
from experiments.studies.imp.search import BRANCHES
from experiments.training.problems import Problem


def report(config: Config, records: Sequence[Record], *, title: str) -> None:
    """Writes and prints the table, the plot, the page, the claims, and with --tensorboard the event files."""
    folder, command = config.folder(), config.command()
    searches.write(folder, records, BRANCHES, title=title, config=dataclasses.asdict(config), command=command)
    series = store.curves(records, BRANCHES)
    store.write(config, claims.of_search(records), command=command, series=series, axes=store.AXES)
    if config.tensorboard:
        tensorboard.write(folder / "tensorboard", tensorboard.over_levels(records))


def title(config: Config, problem: Problem) -> str:
    """Of the table and the plot."""
    examples = sum(len(split.y) for split in problem.dataset)
    return f"{config.model} on {config.data} ({examples:,} examples), run {config.hash()}"
