"""The report of a phase diagram: tables, heat maps, the page and the claims."""

import itertools
from collections.abc import Sequence
from typing import Any

from experiments.claims import store
from experiments.reports import page, plots, tables
from experiments.runs.records import DiagramRecord
from experiments.studies.phase_diagram.claims import claims
from experiments.studies.phase_diagram.lab import Config, Lab
from jaxticket import diagnostics
from jaxticket.methods.analysis.three_regimes import regime

PANELS = {
    "test_accuracy": "test accuracy (%)",
    "train_error": "training error (%)",
    "mode_connectivity": "mode connectivity (points, below 0: a barrier)",
    "cka": "linear CKA of logits (%)",
}


def summarise(config: Config, records: Sequence[DiagramRecord]) -> list[dict[str, Any]]:
    """Return for each cell the intervals over seeds, and the regime of their means."""
    cells = []
    for temperature, density in itertools.product(config.temperatures, config.densities):
        mine = [r.metrics for r in records if (r.temperature, r.density) == (temperature, density)]
        intervals = {name: diagnostics.interval(metrics[name] for metrics in mine)._asdict() for name in PANELS}
        kind = regime(intervals["train_error"]["mean"], intervals["mode_connectivity"]["mean"])
        cells.append(
            {"temperature": temperature, "density": density, "regime": kind.value if kind else "–", **intervals}
        )
    return cells


def report(config: Config, lab: Lab, records: Sequence[DiagramRecord]) -> None:
    """Write and print the tables, the heat maps and the page."""
    folder, cells = config.folder(), summarise(config, records)
    rows = [cells[at : at + len(config.densities)] for at in range(0, len(cells), len(config.densities))]
    title = f"{config.model} on {config.data}, run {config.hash()}"
    columns = (config.temperature, *(f"{100 * density:g} %" for density in config.densities))
    table = lambda cell: [(str(t), *(cell(c) for c in row)) for t, row in zip(config.temperatures, rows, strict=True)]
    shown = {name: table(lambda c, name=name: tables.shown(c[name])) for name in PANELS}
    regimes = table(lambda c: c["regime"])
    plots.heat_maps(
        {label: [[100 * c[name]["mean"] for c in row] for row in rows] for name, label in PANELS.items()},
        folder / "heatmaps.png",
        rows=(config.temperature, config.temperatures),
        columns=("weights kept (%)", [f"{100 * density:g}" for density in config.densities]),
        notes=[row[1:] for row in regimes],
        title=title,
    )
    grids = [tables.grid(columns, regimes, title="regime (–: trained badly, but no barrier)")]
    grids += [tables.grid(columns, shown[name], title=label) for name, label in PANELS.items()]
    tables.publish(
        folder,
        text=f"{title}: ± 95 % interval over {config.seeds} seeds, by temperature and weights kept\n\n"
        + "\n".join(grids),
        results=cells,
        warnings="",
        columns=columns,
        rows=[[t, *map("{}, {}".format, a, r)] for (t, *a), (_, *r) in zip(shown["test_accuracy"], regimes)],
        page=page.page_of(
            config,
            title,
            shows="Heat maps over temperature and density",
            heading="Accuracy on test examples, in %, with 95 % intervals over seeds, and the regime",
        ),
        plot="heatmaps.png",
        others="metrics.jsonl, and the dense networks",
    )
    series = {
        f"{config.temperature} {t}": store.percent((c["density"], *c["test_accuracy"].values()) for c in row)
        for t, row in zip(config.temperatures, rows, strict=True)
    }
    judged = claims(config, records, [c["regime"] for c in cells])
    store.write(config, judged, series=series, axes=store.AXES)
