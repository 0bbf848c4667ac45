"""Strong tickets: how well does an untrained network do, if only the choice of its weights is learnt?

    python experiments/strong_tickets.py                           five searches in a narrow and a wide network
    python experiments/strong_tickets.py --methods edge_popup,biprop --densities 0.5,0.3 --widths 16,32,64,128
    python experiments/strong_tickets.py --weights signed_constant
    python experiments/strong_tickets.py --dry-run                 the plan, and nothing else

Edge-popup, Biprop and signed supermasks; edge-popup with weights that are recycled or drawn anew between epochs; beside
them the weights trained under a random mask, and the dense network trained. A seed has the same first weights and the
same order of examples under all methods. A run that was killed goes on when the same command is given again; more
methods, densities, widths or seeds extend it.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script


from experiments import _cli, _evidence, _html, _plan, _plot, _pod, _report, compare
from experiments._cells import Trainer
from experiments._kinds import DENSE
from experiments._strong import Config, claims, trainer
from experiments.configs import strong_mnist5k

PRESETS = {"strong_mnist5k": strong_mnist5k}


def search(config: Config, trainers: dict[int, Trainer]) -> Iterator[dict[str, Any]]:
    """The records of all cells, width by width."""
    for width, each in trainers.items():
        for record in each.train(config.cells()):
            yield {**record, "width": width}


def run(config: Config) -> list[_report.Record]:
    """Trains what is not trained yet, and reports. Returns the records of all cells."""
    folder = config.folder()
    with _report.Progress(len(config.widths) * len(config.cells()), _lines(config.seeds)) as progress:
        trainers = {width: trainer(config, width) for width in config.widths}
        for each in trainers.values():
            each.progress = progress.step
        with _cli.run_folder(config, progress):
            records = _report.keep(search(config, trainers), folder / "metrics.jsonl", progress)
    if _pod.is_main():
        report(config, records)
    return records


def report(config: Config, records: Sequence[_report.Record]) -> None:
    """Writes and prints the table, the plot and the page."""
    folder = config.folder()
    title = f"strong tickets of {config.model} on {config.data}, run {config.hash()}"
    named = [{**r, "branch": _name(r["method"], r["width"]), "method": _name(r["method"], r["width"])} for r in records]
    results = compare.summarise(named)
    columns = ("method", *(f"{100 * density:g} %" for density in sorted(config.densities, reverse=True)))
    tables = {split: _table(config, results, f"{split}_accuracy") for split in ("test", "validation")}
    points = lambda rows: [_plot.Point(row["kept"], *row["test_accuracy"].values()) for row in rows]
    names = [_name(method, width) for width in config.widths for method in config.methods]
    curves = {_report.plain(name): points(results[name]) for name in names}
    (dense,) = points(results[_name(DENSE, max(config.widths))])
    _plot.accuracy(curves, folder / "accuracy.png", title=title, dense=dense)
    rows, command = tables["test"], config.command()
    _report.publish(
        folder,
        text=f"{title}: accuracy in %, ± 95 % interval over {config.seeds} seeds, by the weights kept\n"
        "(where another part was kept in the end than at first, it stands behind)\n\n"
        + "\n".join(_report.grid(columns, cells, title=f"on {split}") for split, cells in tables.items()),
        results=results,
        warnings=_report.collapse(named, advice="no signal passes it"),
        page=_html.page_of(config, title, columns=columns, rows=rows),
        others="metrics.jsonl, and the tickets of all cells",
    )
    series = {name: _evidence.percent(curve) for name, curve in curves.items()}
    _evidence.store(config, claims(config, records), command=command, series=series, axes=_evidence.AXES)


def plan(config: Config) -> str:
    """What the command would do."""
    folder, cells = config.folder(), config.cells()
    lines = [_plan.folder(folder)]
    for width in config.widths:
        each = trainer(config, width)
        count, _ = _plan.sizes(each.basis.model.init)
        finished = sum(cell.path(each.folder).exists() for cell in cells)
        programs = each.programs(cells)
        lines += [
            f"width {width:<6} {count:,} parameters; {len(cells)} trainings, {finished} of them finished",
            f"             {len(programs)} programs of {each.lanes} trainings, {each.placement.why}",
        ]
    lines += [
        f"each         {each.basis.steps} steps of {config.batch_size} examples",
        _plan.TIME,
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    return _cli.train_or_plan(Config(), argv, PRESETS, description=__doc__, plan=plan, run=run)


def _name(method: str, width: int) -> str:
    return f"{method}, width {width}"


def _lines(seeds: int) -> _report.Rows:
    """A line for each width, method and density."""

    def line(row: Sequence[_report.Record]) -> str:
        first = row[0]
        accuracies = "  ".join(f"{100 * record['test_accuracy']:5.1f}" for record in row)
        name = _report.plain(_name(first["method"], first["width"]))
        return f"{name:31} density {first['density']:<6g}  {accuracies}"

    return _report.Rows(lambda record: (record["width"], record["method"], record["density"]), seeds, line)


def _table(config: Config, results: dict[str, list[dict[str, Any]]], split: str) -> list[tuple[str, ...]]:
    """The cells of a table; the dense network stands in every column, to compare with."""

    def cell(row: dict[str, Any]) -> str:
        moved = abs(row["kept"] - row["density"]) > 0.1 * row["density"]
        return _report.shown(row[split]) + (f" ({100 * row['kept']:.1f} %)" if moved else "")

    def line(name: str) -> tuple[str, ...]:
        cells = [cell(row) for row in results[name]]
        return _report.plain(name), *(cells if len(cells) > 1 else cells * len(config.densities))

    return [line(_name(method, width)) for width in config.widths for method in (DENSE, *config.methods)]


if __name__ == "__main__":
    _pod.host_devices()  # cells side by side, one a core
    sys.exit(main())
