"""The report of a run: accuracy, density and time in one table and plot, the page and the claims."""

import statistics
from collections.abc import Sequence
from typing import Any

from experiments.claims import store
from experiments.reports import page, plots, tables
from experiments.runs.records import SweepRecord
from experiments.studies.structure_lth.claims import claims
from experiments.studies.structure_lth.config import ARMS, Config
from jaxticket import diagnostics

_COLUMNS = (
    "ticket",
    "weights of the search (%)",
    "weights kept (%)",
    "test (%)",
    "time over dense",
    "regrouped layers",
)


def report(config: Config, records: Sequence[SweepRecord]) -> None:
    """Write and print the table, the plot, the page and the claims."""
    folder, title = config.folder(), f"Coarse tickets: {config.setting}, run {config.hash()}"
    lines = summary(config, records)
    rows = [
        (
            tables.plain(line["arm"]),
            f"{100 * (1 - line['sparsity']):.1f}",
            f"{line['kept']:.1f}",
            f"{line['mean']:.2f} ± {line['half_width']:.2f}".replace("nan", "–"),
            f"{line['time']:.2f}",
            f"{line['regrouped']:g}" if line["arm"] == "regroup" else "–",
        )
        for line in lines
    ]
    with plots.figure(folder / "accuracy.png") as axes:
        for arm in ("dense", *ARMS):
            own = [line for line in lines if line["arm"] == arm]
            times, means, halves = ([line[name] for line in own] for name in ("time", "mean", "half_width"))
            axes.errorbar(times, means, yerr=halves, fmt="o-", markersize=4, capsize=3, label=tables.plain(arm))
            for line in own:
                place = (line["time"], line["mean"])
                axes.annotate(f"{line['kept']:.0f} %", place, textcoords="offset points", xytext=(4, 4), fontsize=7)
        axes.set(xlabel=f"time of {config.timed} examples over dense", ylabel="test accuracy (%)", title=title)
        axes.legend(title="with the weights kept", fontsize=8)
    interval = f"± 95 % interval over {config.seeds} seeds; time of {config.timed} examples, median over seeds"
    tables.publish(
        folder,
        text=tables.grid(_COLUMNS, rows, title=f"{title}; {interval}"),
        results={"points": lines},
        warnings="",
        columns=_COLUMNS,
        rows=rows,
        page=page.page_of(
            config, title, shows="Accuracy against the time, with the weights kept", heading=f"Tickets, {interval}"
        ),
        others="metrics.jsonl, and the tickets of all seeds",
    )
    series = {
        tables.plain(arm): [(line["kept"], line["mean"], line["half_width"]) for line in lines if line["arm"] == arm]
        for arm in ("dense", *ARMS)
    }
    store.write(config, claims(config, records), series=series, axes=("weights kept (%)", "test accuracy (%)"))


def summary(config: Config, records: Sequence[SweepRecord]) -> list[dict[str, Any]]:
    """Return a line for each ticket: means over seeds, in %, and the median of the times."""
    lines = []
    for arm, sparsity in dict.fromkeys(cell[:2] for cell in config.cells()):
        own = [record.metrics for record in records if (record.curve, record.sparsity) == (arm, sparsity)]
        mean, half = diagnostics.interval(100 * m["test_accuracy"] for m in own)
        means = {name: statistics.fmean(m[name] for m in own) for name in ("kept", "regrouped")}
        lines.append(
            {
                **{"arm": arm, "sparsity": sparsity, "mean": mean, "half_width": half},
                **{"kept": 100 * means["kept"], "regrouped": means["regrouped"]},
                "time": statistics.median(m["time"] for m in own),
            }
        )
    return lines
