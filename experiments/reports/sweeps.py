"""The studies that measure one network at many points: what a killed run has, the lines of progress, and the plan."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from experiments.reports.progress import Rows
from experiments.reports.study import Study
from experiments.runs import command_line
from experiments.runs.records import SweepRecord, whole


class Sweep:
    """The records that a run has, and the points that it lacks.

    Attributes:
      config: the configuration; its `cells` are (curve, sparsity, seed) of every point.
      finished: the records of the first points, up to a torn or damaged line.
      missing: the other points.
      looks: the checkpoint and the progress of a training, as `training.fit` takes them.
    """

    def __init__(self, config: Any, measures: Sequence[str], **looks: Any):
        """Read what is there; a whole record has these measures. `looks` are for trainings, where there are any."""

        def is_whole(pair: tuple[Any, Any]) -> bool:
            line, cell = pair
            same = tuple(line.get(name) for name in ("curve", "sparsity", "seed")) == cell
            return same and all(isinstance(line.get(name), float) for name in measures)

        self.config, self.looks = config, looks
        pairs = zip(whole(config.folder() / "metrics.jsonl"), config.cells(), strict=False)
        self.finished = [SweepRecord.parse(line) for line, _ in itertools.takewhile(is_whole, pairs)]
        self.missing = config.cells()[len(self.finished) :]


def study_of(
    config: Any,
    sweep: Callable[..., Any],
    points: Callable[[Any, Callable[[str], None]], Iterator[SweepRecord]],
    report: Callable[[Any, Sequence[Any]], None],
    *,
    description: str | None,
    line: str,
    effort: Callable[[Any], str],
    prunes: Callable[[Any], str],
    extras: tuple[str, ...],
) -> Study[Any, Any]:
    """Return the study of a sweep.

    Args:
      config: the configuration with its defaults.
      sweep: (configuration, checkpoint=, progress=) -> a Sweep, whose trainings take these as `training.fit` does.
      points: (sweep, show) -> a record for each cell; `show` gets the current work.
      report: (configuration, records) -> shows and writes the results.
      description: the text above the flags of --help.
      line: the line of progress of a point, a format of the fields of its record.
      effort: configuration -> what a point costs, for --dry-run.
      prunes: sweep -> the table of what is pruned; empty where no point is missing.
      extras: the extras of the package that must be installed.
    """

    def rows(config: Any) -> tuple[int, Rows]:
        by_point = lambda record: (record.curve, record.sparsity, record.seed)
        return len(config.cells()), Rows(by_point, 1, lambda row: line.format(**row[0].line()))

    def plan(config: Any, own: Sweep) -> list[str]:
        return [
            f"points       {len(config.cells())}, of which {len(own.finished)} are there",
            f"each         {effort(config)}",
        ]

    return Study(
        configure=lambda argv: command_line.parse(config, argv, description=description),
        rows=rows,
        prepare=lambda config, watch: sweep(config, **watch.looks),
        records=lambda config, own, watch: points(own, watch.progress.at),
        report=lambda config, own, records: report(config, records),
        plan=plan,
        prunes=lambda config, own: prunes(own),
        extras=extras,
    )
