"""The report of a run: the table, the plot, the page and the claims."""

from collections.abc import Sequence
from typing import Any

from experiments.claims import store
from experiments.reports import page, plots, tables
from experiments.runs.records import SweepRecord
from experiments.studies.pretrained.claims import claims
from experiments.studies.pretrained.config import Config
from jaxticket import diagnostics

_ALIKE = {"efficientnet_lite0": "same class (%)", "minilm": "rank correlation (%)"}
_TIME = "time_"  # of the names of measurements: the time over that of the dense network, by the size of a batch


def report(config: Config, records: Sequence[SweepRecord]) -> None:
    """Write and print the table, the plot and the page."""
    folder, alike = config.folder(), _ALIKE[config.network]
    summary = _summary(config, records)
    measured = list(dict.fromkeys(name for line in summary for name in line["times"]))
    columns = ["choice", alike, "multiply-adds (%)", "parameters (%)", *measured]
    rows = [
        (
            tables.plain(line["choice"]),
            f"{line['mean']:.2f} ± {line['half_width']:.2f}".replace("nan", "–"),
            f"{line['macs']:.1f}",
            f"{line['params']:.1f}",
            *(f"{line['times'][name]:.2f}" if name in line["times"] else "–" for name in measured),
        )
        for line in summary
    ]
    series = {
        tables.plain(choice): [(x["macs"], x["mean"], x["half_width"]) for x in summary if x["choice"] == choice]
        for choice in dict.fromkeys(x["choice"] for x in summary)
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


def _summary(config: Config, records: Sequence[SweepRecord]) -> list[dict[str, Any]]:
    """Return a line for each part and choice, in %."""
    lines = []
    for choice, part in dict.fromkeys(cell[:2] for cell in config.cells()):
        own = [r.metrics for r in records if (r.curve, r.sparsity) == (choice, part)]
        mean, half = diagnostics.interval(100 * m["alike"] for m in own)
        times: dict[str, float] = {}
        for m in (r.metrics for r in records if r.metrics["macs"] == own[0]["macs"]):
            times |= {_column(name): ratio for name, ratio in m.items() if name.startswith(_TIME)}
        sizes = {name: 100 * own[0][name] for name in ("macs", "params")}
        lines.append({"choice": choice, "part": part, "mean": mean, "half_width": half, **sizes, "times": times})
    return lines


def _column(name: str) -> str:
    return name.replace(_TIME, "time at batch ")
