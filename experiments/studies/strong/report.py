"""The report of a search for strong tickets: tables, the plot, the page and the claims."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments.claims import store
from experiments.reports import methods, page, plots, tables
from experiments.runs.records import CellRecord
from experiments.studies.strong.claims import claims
from experiments.studies.strong.search import Config
from experiments.training.kinds import DENSE


def report(config: Config, records: Sequence[CellRecord]) -> None:
    """Write and print the table, the plot and the page."""
    folder = config.folder()
    title = f"strong tickets of {config.model} on {config.data}, run {config.hash()}"
    by_name = [dataclasses.replace(r, method=name_of(r.method, r.metrics["width"])) for r in records]
    results = methods.summarise(by_name)
    columns = ("method", *(f"{100 * density:g} %" for density in sorted(config.densities, reverse=True)))
    by_split = {split: _table(config, results, f"{split}_accuracy") for split in ("test", "validation")}
    points = lambda rows: [plots.Point(row["kept"], *row["test_accuracy"].values()) for row in rows]
    names = [name_of(method, width) for width in config.widths for method in config.methods]
    curves = {tables.plain(name): points(results[name]) for name in names}
    (dense,) = points(results[name_of(DENSE, max(config.widths))])
    plots.accuracy(curves, folder / "accuracy.png", title=title, dense=dense)
    rows = by_split["test"]
    tables.publish(
        folder,
        text=f"{title}: accuracy in %, ± 95 % interval over {config.seeds} seeds, by the weights kept\n"
        "(where another part was kept in the end than at first, it stands behind)\n\n"
        + "\n".join(tables.grid(columns, cells, title=f"on {split}") for split, cells in by_split.items()),
        results=results,
        warnings=tables.collapse(by_name),
        columns=columns,
        rows=rows,
        page=page.page_of(config, title),
        others="metrics.jsonl, and the tickets of all cells",
    )
    series = {name: store.percent(curve) for name, curve in curves.items()}
    store.write(config, claims(config, records), series=series, axes=store.AXES)


def name_of(method: str, width: int) -> str:
    return f"{method}, width {width}"


def _table(config: Config, results: dict[str, list[dict[str, Any]]], split: str) -> list[tuple[str, ...]]:
    """Return the cells of a table; the dense network stands in every column, to compare with."""

    def cell(row: dict[str, Any]) -> str:
        moved = abs(row["kept"] - row["density"]) > 0.1 * row["density"]
        return tables.shown(row[split]) + (f" ({100 * row['kept']:.1f} %)" if moved else "")

    def line(name: str) -> tuple[str, ...]:
        cells = [cell(row) for row in results[name]]
        return tables.plain(name), *(cells if len(cells) > 1 else cells * len(config.densities))

    return [line(name_of(method, width)) for width in config.widths for method in (DENSE, *config.methods)]
