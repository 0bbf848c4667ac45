"""The report of a comparison: tables, the plot, the page, and the claims of all that the run holds."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments.claims import store
from experiments.reports import methods, page, plots, tables
from experiments.runs.records import CellRecord
from experiments.studies.comparison.claims import claims
from experiments.studies.comparison.config import Config
from experiments.training.cells import Cells, finished
from experiments.training.kinds import DENSE


def report(config: Config, trainer: Cells, records: Sequence[CellRecord]) -> None:
    """Write and print the tables, the plot and the page."""
    folder = config.folder()
    title = f"{config.setting}, run {config.hash()}"
    results = methods.summarise(records)
    columns = ("method", *(f"{100 * density:g} %" for density in sorted(config.densities, reverse=True)))
    by_split = {split: [columns, *_table(config, results, f"{split}_accuracy")] for split in ("test", "validation")}
    dense = plots.Point(1.0, *results[DENSE][0]["test_accuracy"].values())
    plots.accuracy(_curves(results), folder / "accuracy.png", title=title, dense=dense)
    head, *rows = by_split["test"]
    tables.publish(
        folder,
        text=f"{title}: accuracy in %, ± 95 % interval over {config.seeds} seeds, by the weights kept\n\n"
        + "\n".join(tables.grid(head, rows, title=f"on {split}") for split, (head, *rows) in by_split.items()),
        results=results,
        warnings=warnings(records),
        columns=head,
        rows=rows,
        page=page.page_of(config, title),
        others="metrics.jsonl, and the tickets of all cells",
    )
    store_claims(config)


def store_claims(config: Config) -> None:
    """Store the claims of all that the run holds, so that another selection removes no stored claim."""
    kept = finished(config.folder())
    series = {name: store.percent(curve) for name, curve in _curves(methods.summarise(kept)).items()}
    store.write(asking_for(config, kept), claims(kept), series=series, axes=store.AXES)


def asking_for(config: Config, records: Sequence[CellRecord]) -> Config:
    """Return the configuration that also asks for the methods, densities and seeds of the records."""
    sparse = [record for record in records if record.method != DENSE]
    return dataclasses.replace(
        config,
        methods=tuple(dict.fromkeys([*config.methods, *(record.method for record in sparse)])),
        densities=tuple(sorted({*config.densities, *(record.density for record in sparse)}, reverse=True)),
        seeds=max(config.seeds, *(1 + record.seed for record in records)),
    )


def warnings(records: Sequence[CellRecord]) -> str:
    """Return a warning for each layer of which a method keeps nothing, and for each method that missed a density."""
    lines = tables.collapse(records)
    for method, rows in methods.summarise(records).items():
        for row in rows:
            if abs(row["kept"] - row["density"]) > 0.1 * row["density"]:
                lines += f"warning: {tables.plain(method)} keeps {row['kept']:.4g} where {row['density']:g} is asked\n"
    return lines


def _curves(results: dict[str, list[dict[str, Any]]]) -> dict[str, list[plots.Point]]:
    """Return the test accuracy against density of each sparse method."""
    return {
        tables.plain(method): [plots.Point(r["density"], *r["test_accuracy"].values()) for r in rows]
        for method, rows in results.items()
        if method != DENSE
    }


def _table(config: Config, results: dict[str, list[dict[str, Any]]], split: str) -> list[tuple[str, ...]]:
    """Return the cells of a table; the dense network stands in every column, to compare with."""
    dense = [tables.shown(results[DENSE][0][split])] * len(config.densities)
    sparse = {method: [tables.shown(row[split]) for row in results[method]] for method in config.methods}
    return [(tables.plain(method), *row) for method, row in {DENSE: dense, **sparse}.items()]
