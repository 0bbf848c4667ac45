"""The report of data pruning: tables, plots, the page and the claims."""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.claims import store
from experiments.reports import page, plots, tables
from experiments.runs.records import SubsetRecord
from experiments.studies.data_pruning import claims, findings
from experiments.studies.data_pruning.config import ALL, RANDOM, Config, Study
from experiments.studies.data_pruning.findings import Trust

Row = Mapping[str, Any]
_LINES = {"easy first": "--", "middle": ":"}


class Scored(NamedTuple):
    """A study, and the scores of its examples."""

    study: Study
    scores: Mapping[str, np.ndarray]  # of each name (replicates, examples), higher = harder
    trust: Mapping[str, Trust]

    @property
    def there(self) -> str:
        """The number of examples, in words."""
        return f"{len(self.study.labels):,} training examples"


def write(config: Config, records: Sequence[SubsetRecord], scored: Sequence[Scored]) -> None:
    """Print the tables, and write them, the plots, the page, the numbers and the claims into the folder of the run."""
    folder, first = config.folder(), scored[0]
    title = f"data pruning, {config.model} on {config.data}, run {config.hash()}"
    rows, turns = findings.summarise(records), findings.turns(config, records, [s.study for s in scored])
    columns = ("subset", *(f"{100 * f:g} %" for f in sorted(config.fractions)))
    text = f"{title}: accuracy in %, ± 95 % interval over {config.seeds} seeds, by the part of the examples kept\n"
    for outcome in scored:
        mine = [row for row in rows if row["size"] == outcome.study.size]
        for what, show in _shown(config).items():
            text += f"\n{tables.grid(columns, _table(config, mine, show), title=f'{what}, {outcome.there}')}"
        if outcome.trust:
            text += f"\n{tables.grid(*_trusted(config, outcome), title=f'scores of {outcome.there}')}"
        suffix = "" if outcome is first else f"_{len(outcome.study.labels)}"
        _curves(mine, folder / f"accuracy{suffix}.png", title=f"{title}\n{outcome.there}")
        if outcome.study.changed.any() and outcome.scores:
            _precision(outcome, folder / f"wrong_labels{suffix}.png", title=f"{title}\n{outcome.there}")
    mine = [row for row in rows if row["size"] == first.study.size]
    store.write(
        config,
        claims.claims(config, records, first.study, first.scores),
        series={
            name: [(100 * p.density, 100 * p.mean, 100 * p.half_width) for p in curve]
            for name, curve in _points(mine).items()
        },
        axes=("training examples kept (%)", "test accuracy (%)"),
    )
    tables.publish(
        folder,
        text=text + "\n" * bool(turns) + findings.sentences(turns),
        results={
            "rows": rows,
            "turns": turns,
            "scores": {str(len(s.study.labels)): findings.as_json(s.trust) for s in scored},
        },
        warnings="",
        columns=columns,
        rows=_table(config, mine, _shown(config)["on test"]),
        page=page.page_of(
            config,
            title,
            shows="Test accuracy against the part of the training examples kept",
        ),
        others="claims.json, metrics.jsonl, the scores of all examples, and the subsets",
    )


def _shown(config: Config) -> dict[str, Callable[[Row], str]]:
    """Return the texts that the tables show of a subset."""
    shown: dict[str, Callable[[Row], str]] = {
        "on test": lambda row: tables.shown(row["test_accuracy"]),
        "on validation": lambda row: tables.shown(row["validation_accuracy"]),
        "rarest – commonest class in %, entropy of classes in bits": lambda row: (
            f"{100 * row['rarest_class']:.1f} – {100 * row['commonest_class']:.1f}  {row['class_entropy']:.2f}"
        ),
    }
    if config.label_noise:
        shown["wrong labels in %"] = lambda row: f"{100 * row['changed_labels']:.1f}"
    return shown


def _table(config: Config, rows: Sequence[Row], show: Callable[[Row], str]) -> list[tuple[str, ...]]:
    """A line for each way to choose; all data stand in every column, to compare with."""
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        cells = [show(row) for row in sorted(_of(rows, name), key=lambda row: row["fraction"])]
        lines.append((tables.plain(name), *(cells * len(config.fractions) if name == ALL else cells)))
    return lines


def _of(rows: Sequence[Row], name: str) -> list[Row]:
    return [row for row in rows if row["name"] == name]


def _trusted(config: Config, scored: Scored) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and cells of the trust in the scores."""
    columns = ["score", "rank correlation\nof two replicates", "of means over\nhalf of them each"]
    number = lambda value: f"{value:.3f}" if math.isfinite(value) else "–"
    cells = [[tables.plain(name), number(t.replicates), number(t.halves)] for name, t in scored.trust.items()]
    if config.transfers():
        columns.append("with scores by\nthe trained network")
        for line, trust in zip(cells, scored.trust.values(), strict=True):
            line.append(number(trust.transfer))
    if scored.study.changed.any():
        chance = scored.study.changed.mean()
        columns += [f"average precision at wrong\nlabels (chance {chance:.3f})", "of the\nmean score"]
        for line, trust in zip(cells, scored.trust.values(), strict=True):
            line += [f"{number(trust.precision.mean)} ± {number(trust.precision.half_width)}", number(trust.averaged)]
    return tuple(columns), [tuple(line) for line in cells]


def _points(rows: Sequence[Row]) -> dict[str, list[plots.Point]]:
    """Return curves over the part of the examples kept, by name; all data, of one point, have none."""
    names = dict.fromkeys(row["name"] for row in rows if row["name"] != ALL)
    return {
        tables.plain(name): [
            plots.Point(row["fraction"], *row["test_accuracy"].values())
            for row in sorted(_of(rows, name), key=lambda row: row["fraction"])
        ]
        for name in names
    }


def _curves(rows: Sequence[Row], file: pathlib.Path, *, title: str) -> None:
    """Test accuracy against the part of the examples kept: a colour for each score, a line for each order."""
    from matplotlib import ticker

    (everything,) = (plots.Point(1.0, *row["test_accuracy"].values()) for row in _of(rows, ALL))
    with plots.figure(file, width=9) as axes:
        colours: dict[str, str] = {}
        for name, points in _points(rows).items():
            score, *order = name.removesuffix(", taught").split(", ")
            style = {"color": "black" if score == RANDOM else colours.setdefault(score, f"C{len(colours)}")}
            style |= {"linestyle": _LINES.get("".join(order), "-")}
            taught = {"marker": "*", "alpha": 0.5} if name.endswith(", taught") else {}
            plots.band(axes, [100 * p.density for p in points], points, label=name, **style, **taught)
        axes.axhline(100 * everything.mean, color="grey", linewidth=1, label="all data")
        axes.set(xscale="log", xlabel="training examples kept (%)", ylabel="test accuracy (%)", title=title)
        low, high = (of(100 * row["test_accuracy"]["mean"] for row in rows) for of in (min, max))
        edge = 0.1 * (high - low) + 1  # wider intervals, of few seeds, would leave no room for the curves
        axes.set_ylim(low - edge, high + edge)
        fractions = sorted({100 * row["fraction"] for row in rows})
        axes.set_xticks(fractions, minor=False)
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")


def _precision(scored: Scored, file: pathlib.Path, *, title: str) -> None:
    """Precision against recall of each averaged score, at finding the labels that were changed."""
    from sklearn.metrics import precision_recall_curve

    changed = scored.study.changed
    with plots.figure(file) as axes:
        for name, values in scored.scores.items():
            precision, recall, _ = precision_recall_curve(changed, values.mean(0))
            label = f"{tables.plain(name)} ({scored.trust[name].averaged:.3f})"
            axes.plot(100 * recall, 100 * precision, label=label, drawstyle="steps-post")
        axes.axhline(100 * changed.mean(), color="black", linewidth=1, linestyle=":", label="chance")
        axes.set(xlabel="wrong labels found (%)", ylabel="wrong labels among the found (%)", title=title)
        axes.legend(title="score (average precision)", fontsize="small")
