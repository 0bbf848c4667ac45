"""The report of a run: accuracy before and after retraining, by part, and the graphs' properties beside accuracy."""

import math
from collections.abc import Sequence
from typing import Any, get_args

from experiments.claims import store
from experiments.reports import page, plots, tables
from experiments.runs.records import SweepRecord
from experiments.studies.sparse_rnn.claims import Correlation, claims, correlate, of_graphs
from experiments.studies.sparse_rnn.config import DENSE, Config, Family
from experiments.studies.sparse_rnn.graphs import PROPERTIES
from jaxticket import diagnostics

_COLUMNS = ("layers", "pruned", "sparsity (%)", "before retraining (%)", "test (%)")
_GRAPHS = ("layers", "property", "correlation with the accuracy", "95 % interval")


def report(config: Config, records: Sequence[SweepRecord]) -> None:
    """Write and print the tables, the plot, the page and the claims."""
    folder, title = config.folder(), f"Sparse recurrent networks on strings of a grammar, run {config.hash()}"
    lines = summary(config, records)
    rows = [
        (
            line["kind"],
            line["part"],
            f"{100 * line['sparsity']:g}",
            "–" if line["part"] == DENSE else _interval(line["before"]),
            _interval(line["after"]),
        )
        for line in lines
    ]
    kinds = {kind: [line for line in lines if line["kind"] == kind] for kind in config.recurrences}
    with plots.figure(folder / "accuracy.png") as axes:
        for color, (kind, own) in enumerate(kinds.items()):
            for marker, part in zip("osv", config.parts, strict=False):
                curve = [(100 * x["sparsity"], x["before"].mean) for x in own if x["part"] in (DENSE, part)]
                axes.plot(*zip(*curve, strict=True), marker=marker, color=f"C{color}", label=f"{kind} {part}")
        axes.set(xlabel="sparsity of the part (%)", ylabel="test accuracy before retraining (%)", title=title)
        axes.legend(ncols=2, fontsize=7)
    interval = f"± 95 % interval over {config.seeds} seeds"
    text = tables.grid(_COLUMNS, rows, title=f"{title}; {interval}")
    correlations = {kind: correlations_of(records, kind) for kind in config.connected} if config.graphs else {}
    shown = [
        (
            kind,
            tables.plain(name),
            f"{c.value:+.2f}".replace("+nan", "–"),
            f"{c.low:+.2f} to {c.high:+.2f}".replace("+nan", "–"),
        )
        for kind, own in correlations.items()
        for name, c in own.items()
    ]
    if shown:
        count = config.graphs * len(get_args(Family))
        text += "\n" + tables.grid(_GRAPHS, shown, title=f"Properties of {count} random graphs beside accuracy")
    tables.publish(
        folder,
        text=text,
        results={
            "points": [{**line, "before": [*line["before"]], "after": [*line["after"]]} for line in lines],
            "correlations": {kind: {name: [*c] for name, c in own.items()} for kind, own in correlations.items()},
        },
        warnings="",
        columns=_COLUMNS,
        rows=rows,
        page=page.page_of(
            config, title, shows="Accuracy before retraining against sparsity", heading=f"Pruned parts, {interval}"
        ),
        others="metrics.jsonl, and the dense tickets",
    )
    series = {
        f"{kind} {part}": [
            (100 * x["sparsity"], x["before"].mean, x["before"].half_width) for x in own if x["part"] in (DENSE, part)
        ]
        for kind, own in kinds.items()
        for part in config.parts
    }
    axes = ("sparsity of the part (%)", "test accuracy before retraining (%)")
    store.write(config, claims(config, records), series=series, axes=axes)


def summary(config: Config, records: Sequence[SweepRecord]) -> list[dict[str, Any]]:
    """Return a line for each kind, part and sparsity, with intervals in %."""
    lines = []
    for curve, sparsity in dict.fromkeys(cell[:2] for cell in config.cells()):
        kind, part = curve.split()
        if part in get_args(Family):
            continue
        own = [record.metrics for record in records if (record.curve, record.sparsity) == (curve, sparsity)]
        after = diagnostics.interval(100 * m["test_accuracy"] for m in own)
        before = diagnostics.interval(100 * m["before"] for m in own) if part != DENSE else after
        lines.append({"kind": kind, "part": part, "sparsity": sparsity, "before": before, "after": after})
    return lines


def correlations_of(records: Sequence[SweepRecord], kind: str) -> dict[str, Correlation]:
    """Return the correlation of each property of random graphs with the accuracy, the strongest first."""
    measured = of_graphs(records, kind)
    correlations = {name: correlate(measured, name) for name in PROPERTIES}
    strength = lambda item: -1.0 if math.isnan(item[1].value) else abs(item[1].value)
    return dict(sorted(correlations.items(), key=strength, reverse=True))


def _interval(interval: diagnostics.Interval) -> str:
    return f"{interval.mean:.2f} ± {interval.half_width:.2f}".replace("nan", "–")
