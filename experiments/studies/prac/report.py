"""The report of a search on PrAC sets: tables, the plot, the page and the claims."""

import statistics
from collections.abc import Sequence

from experiments.claims import store
from experiments.reports import page, plots, tables
from experiments.runs.records import ArmRecord
from experiments.studies.prac.claims import SAVED, claims
from experiments.studies.prac.search import ARMS, OTHERS, Config
from jaxticket import diagnostics

AXES = ("round", "examples (%)")


FREE = "prac_without_minimum"  # the sets of prac, had there been no floor in this round


def report(config: Config, records: Sequence[ArmRecord], *, examples: int) -> None:
    """Write and print the tables, the plot, the page and the claims."""
    folder = config.folder()
    title = f"PrAC sets of {config.model} on {config.data} ({examples:,} training examples), run {config.hash()}"
    columns = ("ticket of", "weights kept", "test", "validation", "iterations saved", "examples, mean")
    rows = [_row(arm, [r for r in records if r.branch == arm], examples) for arm in (*ARMS, *OTHERS)]
    sizes = {arm: _sizes([r.examples for r in records if r.branch == arm], examples) for arm in ARMS}
    sizes[FREE] = _sizes([r.without_minimum for r in records if r.branch == "prac"], examples)
    by_round = [(str(at), *(_shown(points[at]) for points in sizes.values())) for at in range(config.rounds)]
    with plots.figure(folder / "sets.png") as axes:
        for arm, points in sizes.items():
            plots.band(axes, range(config.rounds), points, label=tables.plain(arm))
        axes.set(xlabel=AXES[0], ylabel=AXES[1], title="what each round trains on")
        axes.legend()
    tables.publish(
        folder,
        text=f"{title}: in %, ± 95 % interval over {config.seeds} seeds\n\n"
        + tables.grid(columns, rows, title="tickets, trained on all examples")
        + "\n"
        + tables.grid(("round", *map(tables.plain, sizes)), by_round, title="examples of each round")
        + f"\niterations saved by the paper's PrAC sets: {SAVED[0]} to {SAVED[1]} %, networks on CIFAR-10\n"
        + _classes([r for r in records if r.branch == "prac"]),
        results={
            "tickets": [record.line() for record in records],
            "sizes": {arm: [p._asdict() for p in points] for arm, points in sizes.items()},
        },
        warnings=tables.collapse(records),
        columns=columns,
        rows=rows,
        page=page.page_of(
            config,
            title,
            shows="Examples of each round",
            heading="Tickets trained on all examples, in %, with 95 % intervals over seeds",
        ),
        others="metrics.jsonl, and the tickets and sets of all seeds",
        plot="sets.png",
    )
    series = {
        tables.plain(arm): [(at, 100 * p.mean, 100 * p.half_width) for at, p in enumerate(points)]
        for arm, points in sizes.items()
    }
    store.write(config, claims(records), series=series, axes=AXES)


def _row(arm: str, records: Sequence[ArmRecord], examples: int) -> tuple[str, ...]:
    accuracies = tables.accuracies(records)
    saved, part = "–", "–"
    if arm in ARMS:
        saved = _shown(_point(0, [r.saved for r in records]))
        part = _shown(_point(0, [statistics.fmean(r.examples) / examples for r in records]))
    kept = f"{100 * statistics.fmean(r.density for r in records):.2f}"
    test, validation = (tables.shown(accuracies[f"{split}_accuracy"]) for split in ("test", "validation"))
    return tables.plain(arm), kept, test, validation, saved, part


def _sizes(counts: Sequence[Sequence[int]], examples: int) -> list[plots.Point]:
    """Return the part of the examples that each round trains on, from counts by seed and round."""
    rounds = zip(*counts, strict=True)
    return [_point(at, [size / examples for size in sizes]) for at, sizes in enumerate(rounds)]


def _point(at: float, values: Sequence[float]) -> plots.Point:
    return plots.Point(at, *diagnostics.interval(values))


def _shown(point: plots.Point) -> str:
    return tables.shown({"mean": point.mean, "half_width": point.half_width})


def _classes(records: Sequence[ArmRecord]) -> str:
    """Return a line for each seed: the number of examples of each class in the last round."""
    return "".join(f"classes of the last PrAC set, seed {r.seed}: {' '.join(map(str, r.classes))}\n" for r in records)
