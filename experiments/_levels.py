"""What a search by levels shows: accuracies of each level and branch, in a table, a plot and a page."""

import functools
import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments import _html, _plot, _report
from experiments._plot import Point
from jaxticket.errors import CheckpointError


def by_level(replicates: int, branches: Sequence[str]) -> _report.Rows:
    """A line for each level of each replicate."""

    def line(row: Sequence[_report.Record]) -> str:
        first = row[0]
        accuracies = "  ".join(f"{_report.plain(r['branch'])} {100 * r['test_accuracy']:5.1f}" for r in row)
        start = f"replicate {first['replicate'] + 1}/{replicates}  level {first['level']:2}  density "
        return f"{start}{first['density']:.4f}  {accuracies}"

    return _report.Rows(lambda record: record["replicate"], len(branches), line)


def read(file: pathlib.Path, branch: str) -> list[_report.Record]:
    """The records of a branch that `_report.keep` wrote; none if there is no such file.

    A last line that a kill tore is none. Raises CheckpointError, naming the line, where the file is damaged before.
    """
    records = _report.whole(file)
    lines = file.read_bytes().count(b"\n") if file.exists() else 0
    if len(records) < lines:
        fix = "run the search again: what it trained is kept, and the file is written anew"
        raise CheckpointError(f"{file}: line {len(records) + 1} is damaged; {fix}")
    return [record for record in records if record.get("branch") == branch]


def summarise(records: Iterable[_report.Record], branches: Sequence[str]) -> list[dict[str, Any]]:
    """One row a level: its density and, for each branch and split, mean accuracy and half its 95 % interval."""
    by_level: dict[int, list[_report.Record]] = {}
    for record in records:
        by_level.setdefault(record["level"], []).append(record)
    rows = []
    for level, members in sorted(by_level.items()):
        row: dict[str, Any] = {"level": level, "density": statistics.fmean(m["density"] for m in members)}
        for branch in branches:
            mine = [m for m in members if m["branch"] == branch]
            row[branch] = {"replicates": len(mine), **_report.accuracies(mine)}
        rows.append(row)
    return rows


def write(
    folder: pathlib.Path,
    records: Sequence[_report.Record],
    branches: Sequence[str],
    *,
    title: str,
    config: Mapping[str, Any],
    command: Sequence[str],
) -> None:
    """Prints the table and writes table.txt, results.json, accuracy.png and report.html into the folder."""
    rows = summarise(records, branches)
    replicates = rows[0][branches[0]]["replicates"]
    text = table(rows, branches, title=f"{title}: accuracy in %, ± 95 % interval over {replicates} replicates")
    columns = ("level", "density", *map(_report.plain, branches))
    cells = [
        (str(r["level"]), f"{r['density']:.4f}", *(_report.shown(r[b]["test_accuracy"]) for b in branches))
        for r in rows
    ]
    _plot.accuracy({_report.plain(b): curve(rows, b) for b in branches}, folder / "accuracy.png", title=title)
    _report.publish(
        folder,
        text=text,
        results=rows,
        warnings=_report.collapse(records),
        page=functools.partial(_html.page, title, columns=columns, rows=cells, config=config, command=command),
        others="metrics.jsonl, and the tickets of every level",
    )


def table(rows: Sequence[Mapping[str, Any]], branches: Sequence[str], *, title: str) -> str:
    """Accuracy by level: on test with its interval, then the mean on validation; of many branches below."""
    levels = [(str(row["level"]), f"{row['density']:.4f}") for row in rows]
    test = [[_report.shown(row[branch]["test_accuracy"]) for branch in branches] for row in rows]
    validation = [[f"{100 * row[branch]['validation_accuracy']['mean']:.2f}" for branch in branches] for row in rows]
    names = [_report.plain(branch) for branch in branches]
    if len(branches) > 4:
        columns = ("level", "density", *names)
        on_test = _report.grid(columns, [(*level, *cells) for level, cells in zip(levels, test)], title=title)
        others = [(*level, *cells) for level, cells in zip(levels, validation)]
        return f"{on_test}\n{_report.grid(columns, others, title='on validation')}"
    columns = ("level", "density", *names, *(f"{name}\nvalidation" for name in names))
    cells = [(*level, *own, *others) for level, own, others in zip(levels, test, validation)]
    return _report.grid(columns, cells, title=title)


def curve(rows: Sequence[Mapping[str, Any]], branch: str) -> list[Point]:
    """Test accuracy of one branch at each level, as fractions."""
    return [Point(row["density"], *row[branch]["test_accuracy"].values()) for row in rows]
