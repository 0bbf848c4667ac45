"""The report of a search by levels: the accuracies of each level and branch, in a table, a plot and a page."""

import contextlib
import functools
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.reports import page, plots, tables
from experiments.reports.plots import Point
from experiments.reports.progress import Rows
from experiments.runs.records import LevelRecord, whole
from jaxticket.errors import CheckpointError


def by_level(replicates: int, branches: Sequence[str]) -> Rows:
    """Return the progress with a line for each level of each replicate."""

    def line(row: Sequence[LevelRecord]) -> str:
        first = row[0]
        accuracies = "  ".join(f"{tables.plain(r.branch)} {100 * r.metrics['test_accuracy']:5.1f}" for r in row)
        start = f"replicate {first.replicate + 1}/{replicates}  level {first.level:2}  density "
        return f"{start}{first.density:.4f}  {accuracies}"

    return Rows(lambda record: record.replicate, len(branches), line)


def read(file: pathlib.Path, branch: str) -> list[LevelRecord]:
    """Read the records of a branch that `keep` wrote; none if the file does not exist.

    A last line that a kill tore is skipped. Raises CheckpointError, naming the line, where the file is damaged before.
    """
    records = []
    with contextlib.suppress(KeyError):
        for line in whole(file):
            records.append(LevelRecord.parse(line))
    lines = file.read_bytes().count(b"\n") if file.exists() else 0
    if len(records) < lines:
        fix = "run the search again: its trainings are kept, and the file is written again"
        raise CheckpointError(f"{file}: line {len(records) + 1} is damaged; {fix}")
    return [record for record in records if record.branch == branch]


def summarise(records: Iterable[LevelRecord], branches: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each level: its density and, for each branch and split, the accuracy with its interval."""
    by_level: dict[int, list[LevelRecord]] = {}
    for record in records:
        by_level.setdefault(record.level, []).append(record)
    rows = []
    for level, members in sorted(by_level.items()):
        row: dict[str, Any] = {"level": level, "density": statistics.fmean(m.density for m in members)}
        for branch in branches:
            mine = [member for member in members if member.branch == branch]
            row[branch] = {"replicates": len(mine), **tables.accuracies(mine)}
        rows.append(row)
    return rows


def write(
    folder: pathlib.Path,
    records: Sequence[LevelRecord],
    branches: Sequence[str],
    *,
    title: str,
    config: Mapping[str, Any],
    command: Sequence[str],
    layers: tables.Layers | None = None,
) -> None:
    """Print the tables, and write table.txt, table.csv, results.json, accuracy.png and report.html into the folder.

    Args:
      folder: the folder of the run.
      records: the records of all its trainings.
      branches: the columns of the table; a dense level of the first is the reference line of the plot.
      title: stands above the table and the plot.
      config: the settings that the page lists.
      command: repeats the run.
      layers: the densities of layers, if the search shows those of a ticket.
    """
    rows = summarise(records, branches)
    replicates = rows[0][branches[0]]["replicates"]
    text = table(rows, branches, title=f"{title}: accuracy in %, ± 95 % interval over {replicates} replicates")
    columns = ("level", "density", *map(tables.plain, branches))
    cells = [
        (str(r["level"]), f"{r['density']:.4f}", *(tables.shown(r[b]["test_accuracy"]) for b in branches)) for r in rows
    ]
    curves = {tables.plain(branch): curve(rows, branch) for branch in branches}
    dense = next((point for point in curve(rows, branches[0]) if point.density == 1), None)
    plots.accuracy(curves, folder / "accuracy.png", title=title, dense=dense)
    tables.publish(
        folder,
        text=text + ("\n" + layers.text() if layers else ""),
        results=rows,
        columns=columns,
        rows=cells,
        warnings=tables.collapse(records, advice="--minimum keeps some of each"),
        page=functools.partial(page.page, title, config=config, command=command, layers=layers),
        others="metrics.jsonl, and the tickets of every level",
    )


def table(rows: Sequence[Mapping[str, Any]], branches: Sequence[str], *, title: str) -> str:
    """Return accuracy by level: on test with its interval, then the mean on validation; of many branches below."""
    levels = [(str(row["level"]), f"{row['density']:.4f}") for row in rows]
    test = [[tables.shown(row[branch]["test_accuracy"]) for branch in branches] for row in rows]
    validation = [[f"{100 * row[branch]['validation_accuracy']['mean']:.2f}" for branch in branches] for row in rows]
    names = [tables.plain(branch) for branch in branches]
    if len(branches) > 4:
        columns = ("level", "density", *names)
        on_test = tables.grid(columns, [(*level, *cells) for level, cells in zip(levels, test)], title=title)
        others = [(*level, *cells) for level, cells in zip(levels, validation)]
        return f"{on_test}\n{tables.grid(columns, others, title='on validation')}"
    columns = ("level", "density", *names, *(f"{name}\nvalidation" for name in names))
    cells = [(*level, *own, *others) for level, own, others in zip(levels, test, validation)]
    return tables.grid(columns, cells, title=title)


def curve(rows: Sequence[Mapping[str, Any]], branch: str) -> list[Point]:
    """Return the test accuracy of one branch at each level, as fractions."""
    return [Point(row["density"], *row[branch]["test_accuracy"].values()) for row in rows]
