"""The report of a run: the table, the plot, the page and the claims."""

from collections.abc import Sequence
from typing import Any

from experiments.claims import store
from experiments.reports import page, plots, tables
from experiments.runs.records import SweepRecord
from experiments.studies.pretrained.claims import claims
from experiments.studies.pretrained.config import CHOICES, Config
from jaxticket import diagnostics

_ALIKE = {"efficientnet_lite0": "same class (%)", "minilm": "rank correlation (%)"}


def report(config: Config, records: Sequence[SweepRecord]) -> None:
    """Write and print the table, the plot and the page."""
    folder, alike = config.folder(), _ALIKE[config.network]
    summary = _summary(config, records)
    columns = ["choice", alike, "multiply-adds (%)", "parameters (%)", *_times(records)]
    rows = [
        (
            tables.plain(line["choice"]),
            f"{line['mean']:.2f} ± {line['half_width']:.2f}".replace("nan", "–"),
            f"{line['macs']:.1f}",
            f"{line['params']:.1f}",
            *(f"{line['times'][name]:.2f}" for name in _times(records)),
        )
        for line in summary
    ]
    series = {
        tables.plain(choice): [(x["macs"], x["mean"], x["half_width"]) for x in summary if x["choice"] == choice]
        for choice in CHOICES[config.network]
    }
    title = f"{config.setting}, against the dense network"
    with plots.figure(folder / "accuracy.png") as axes:
        for name, curve in series.items():
            axes.errorbar(*zip(*curve, strict=True), fmt="o-", markersize=4, capsize=3, label=name)
        axes.set(xlabel="multiply-adds kept (%)", ylabel=alike, title=title)
        axes.legend()
    tables.publish(
        folder,
        text=tables.grid(columns, rows, title=f"{title}; ± 95 % interval over {config.seeds} seeds; times over dense"),
        results={"points": summary},
        warnings="",
        columns=columns,
        rows=rows,
        page=page.page_of(
            config, title, shows=f"{alike} against the multiply-adds kept", heading="What is left of the outputs"
        ),
        others="metrics.jsonl",
    )
    store.write(config, claims(config, records), series=series, axes=("multiply-adds kept (%)", alike))


def _times(records: Sequence[SweepRecord]) -> list[str]:
    """Return the names of the columns of times, which are measurements of records."""
    names = {name: None for r in records for name in r.metrics if name.startswith("time_")}
    return [name.replace("time_", "time at batch ") for name in names]


def _summary(config: Config, records: Sequence[SweepRecord]) -> list[dict[str, Any]]:
    """Return a line for each part and choice, in %."""
    lines = []
    for part in sorted({record.sparsity for record in records}):
        for choice in CHOICES[config.network]:
            own = [r.metrics for r in records if (r.curve, r.sparsity) == (choice, part)]
            mean, half = diagnostics.interval(100 * m["alike"] for m in own)
            same = next(r.metrics for r in records if r.metrics["macs"] == own[0]["macs"])
            times = {name: same[name.replace("time at batch ", "time_")] for name in _times(records)}
            sizes = {name: 100 * own[0][name] for name in ("macs", "params")}
            lines.append({"choice": choice, "part": part, "mean": mean, "half_width": half, **sizes, "times": times})
    return lines
