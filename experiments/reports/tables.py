"""The results of an experiment: a table, the page and the numbers behind them."""

import csv
import io
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.runs.records import ArmRecord, CellRecord, LevelRecord, Record
from jaxticket import diagnostics, files, tickets


def accuracies(records: Iterable[Record]) -> dict[str, dict[str, float]]:
    """Return for each split the mean accuracy over replicates, and half its 95 % interval."""
    metrics, splits = [record.metrics for record in records], ("test_accuracy", "validation_accuracy")
    return {split: diagnostics.interval(m[split] for m in metrics)._asdict() for split in splits}


def publish(
    folder: pathlib.Path,
    *,
    text: str,
    results: Any,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    warnings: str,
    page: Callable[..., str],
    others: str,
    plot: str = "accuracy.png",
) -> None:
    """Print the table, and write table.txt, table.csv, results.json and report.html.

    Args:
      folder: the folder of the run.
      text: the tables as text.
      results: the numbers behind them.
      columns: the names above the table of the page and of table.csv.
      rows: its cells.
      warnings: a line for each.
      page: (plot, columns, rows, warnings) -> the HTML page.
      others: the other files of the run, in words.
      plot: the name of the image, which exists.
    """
    files.write_text(folder / "table.txt", text + warnings)
    files.write_text(folder / "results.json", json.dumps(finite(results), indent=1) + "\n")
    files.write_text(folder / "report.html", page(plot=folder / plot, columns=columns, rows=rows, warnings=warnings))
    files.write_text(folder / "table.csv", comma_separated(columns, rows))
    print(f"{text}{warnings}\n{folder}: report.html, table.txt, table.csv, results.json, {plot}, {others}")


def comma_separated(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the table as CSV; a column of means and intervals becomes two columns.

    >>> print(comma_separated(("level", "test"), [("0", "97.50 ±  0.25"), ("1", "97.00 ±    –")]), end="")
    level,test,test ±
    0,97.50,0.25
    1,97.00,
    """
    with_interval = [any("±" in row[at] for row in rows) for at in range(len(columns))]
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    for cells in (columns, *rows):
        line: list[str] = []
        for cell, two in zip(cells, with_interval, strict=True):
            mean, _, half = cell.partition("±")
            line += [mean.strip(), f"{cell} ±" if cells is columns else half.strip(" –")] if two else [cell]
        writer.writerow(line)
    return page.getvalue()


def grid(columns: Sequence[str], cells: Iterable[Sequence[str]], *, title: str) -> str:
    """Return a table as text."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in cells:
        table.add_row(*row)
    page = io.StringIO()
    Console(file=page, width=140).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().strip("\n").splitlines()).rstrip() + "\n"


class Layers(NamedTuple):
    """The densities of the layers of a saved ticket, as a table.

    Attributes:
      title: stands above the table.
      ticket: the folder of the ticket.
    """

    title: str
    ticket: pathlib.Path

    @property
    def columns(self) -> tuple[str, ...]:
        return ("layer", "kept", "of", "density")

    def rows(self) -> list[tuple[str, ...]]:
        """Return a row for each layer."""
        layers = tickets.describe(self.ticket)["density"]
        return [(path, f"{d['kept']:,}", f"{d['of']:,}", f"{d['kept'] / d['of']:.4f}") for path, d in layers.items()]

    def text(self) -> str:
        """Return the table as text."""
        return grid(self.columns, self.rows(), title=self.title)


def collapse(records: Iterable[ArmRecord | CellRecord | LevelRecord], *, advice: str = "no signal passes it") -> str:
    """Return a warning for each layer and branch that keeps no weight, with the density at which that began."""
    first: dict[tuple[str, str], float] = {}
    for record in records:
        for layer in record.collapsed:
            where = (plain(record.method if isinstance(record, CellRecord) else record.branch), layer)
            first[where] = max(first.get(where, 0.0), record.density)
    return "".join(
        f"warning: {branch}: {layer} keeps no weight from density {density:.4g} on; {advice}\n"
        for (branch, layer), density in sorted(first.items())
    )


def shown(accuracy: Mapping[str, float]) -> str:
    return f"{100 * accuracy['mean']:.2f} ± {100 * accuracy['half_width']:5.2f}".replace("  nan", "    –")


def plain(branch: str) -> str:
    return branch.replace("_", " ")


def finite(value: Any) -> Any:
    """Return the value for JSON, which has no NaN: null for the interval of one replicate or a diverged loss."""
    if isinstance(value, Mapping):
        return {name: finite(v) for name, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
