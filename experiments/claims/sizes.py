"""The report of a study that compares ways to make a network smaller: the table, the plot, the page and the claims."""

import statistics
from collections.abc import Sequence
from typing import Any

from experiments.claims import store
from experiments.claims.record import Claim
from experiments.reports import page, plots, tables
from experiments.runs.records import SweepRecord
from jaxticket import diagnostics

_TIME = "time_"  # of the names of measurements: the time over that of the dense network, of what the rest names
_KEPT = "multiply-adds kept (%)"


def write(
    config: Any,
    records: Sequence[SweepRecord],
    claims: Sequence[Claim],
    *,
    measure: str,
    label: str,
    title: str,
    heading: str,
    note: str,
    times: str,
) -> None:
    """Write and print the report.

    Args:
      config: the configuration, with `cells` and `seeds`.
      records: the records of all cells; their metrics are `measure`, macs and params, over those of the dense network,
        and times, which stand for others of the same macs that were not timed.
      claims: the claims that the records test.
      measure: the name of the quality among the metrics.
      label: its name in the table and the plot.
      title: stands above the table and the plot.
      heading: the heading of the table in the page.
      note: more about the numbers.
      times: the name of a column of times; what is timed follows it.
    """
    folder = config.folder()
    summary = _summary(config, records, measure, times)
    measured = list(dict.fromkeys(name for line in summary for name in line["times"]))
    columns = ["choice", label, "multiply-adds (%)", "parameters (%)", *measured]
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
    with plots.figure(folder / "accuracy.png") as axes:
        for name, curve in series.items():
            axes.errorbar(*zip(*curve, strict=True), fmt="o-", markersize=4, capsize=3, label=name)
        axes.set(xlabel=_KEPT, ylabel=label, title=title)
        axes.legend()
    tables.publish(
        folder,
        text=tables.grid(columns, rows, title=f"{title}; ± 95 % interval over {config.seeds} seeds; {note}"),
        results={"points": summary},
        warnings="",
        columns=columns,
        rows=rows,
        page=page.page_of(config, title, shows=f"{label} against the multiply-adds kept", heading=heading),
        others="metrics.jsonl",
    )
    store.write(config, claims, series=series, axes=(_KEPT, label))


def _summary(config: Any, records: Sequence[SweepRecord], measure: str, times: str) -> list[dict[str, Any]]:
    """Return a line for each part and choice, in %."""
    lines = []
    for choice, part in dict.fromkeys(cell[:2] for cell in config.cells()):
        own = [r.metrics for r in records if (r.curve, r.sparsity) == (choice, part)]
        mean, half = diagnostics.interval(100 * m[measure] for m in own)
        alike = [r.metrics for r in records if r.metrics["macs"] == own[0]["macs"]]
        timed = _times(own, times) or _times(alike, times)
        sizes = {name: 100 * own[0][name] for name in ("macs", "params")}
        lines.append({"choice": choice, "part": part, "mean": mean, "half_width": half, **sizes, "times": timed})
    return lines


def _times(measured: Sequence[dict[str, Any]], times: str) -> dict[str, float]:
    """Return the medians of the times among some metrics, by the name of their column."""
    names = dict.fromkeys(name for m in measured for name in m if name.startswith(_TIME))
    middle = lambda name: statistics.median_low(m[name] for m in measured if name in m)
    return {f"{times} {name[len(_TIME) :]}": middle(name) for name in names}
