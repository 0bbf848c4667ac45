"""Methods of the field side by side: each at several densities, with several seeds, in one command.

    python experiments/compare.py                                   three methods on digits, and the dense network
    python experiments/compare.py --methods static,snip,rigl,ste --densities 0.1,0.05,0.02,0.01 --seeds 3
    python experiments/compare.py --dry-run                         the plan, and nothing else
    python experiments/compare.py --preset resnet20_cifar           the network, data and recipe of a file in configs/

A method is any name of `jaxticket.registry`. A seed has the same first weights and the same order of examples under all
methods. A run that was killed goes on when the same command is given again; more methods, densities or seeds extend it.
"""

import dataclasses
import pathlib
import statistics
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script


from experiments import _cells, _cli, _evidence, _html, _plan, _plot, _pod, _report
from experiments._cells import Trainer
from experiments._comparison_claims import claims
from experiments._config import Training, require
from experiments._kinds import DENSE, Cell
from experiments.imp import PRESETS
from jaxticket import registry
from jaxticket.training.nonfinite import OnNan


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Train methods at densities with seeds, and the dense network with the same seeds."""

    EXPERIMENT = "compare"
    NOT_HASHED = Training.NOT_HASHED | {"methods", "densities", "seeds"}

    on_nan: OnNan = "record"
    """At a loss that is not finite: record what comes of it, as befits a comparison, stop, or skip such steps."""
    methods: tuple[str, ...] = ("static", "gradual", "rigl")
    """Names of jaxticket.registry, with spaces or commas between them."""
    densities: tuple[float, ...] = (0.1, 0.05, 0.02, 0.01)
    """Fractions of the weights to keep."""
    seeds: int = 3
    """Repetitions of everything with other random numbers (the split of the data stays)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for method in self.methods:
            registry.get(method)
        for name in ("methods", "densities"):
            values = getattr(self, name)
            require(0 < len(values) == len(set(values)), self, name, "different values, at least one")
        require(all(0 < density < 1 for density in self.densities), self, "densities", "between 0 and 1")
        require(self.seeds >= 1, self, "seeds", "at least 1")

    def cells(self) -> list[Cell]:
        """Everything to train: the dense network first, then method by method from dense to sparse."""
        pairs = [(DENSE, 1.0), *((m, d) for m in self.methods for d in sorted(self.densities, reverse=True))]
        return [Cell(method, density, seed) for method, density in pairs for seed in range(self.seeds)]


def run(config: Config) -> list[_report.Record]:
    """Trains what is not trained yet, and reports. Returns the records of all cells."""
    folder, cells = config.folder(), config.cells()
    with _report.Progress(len(cells), _lines(config.seeds)) as progress:
        trainer = _trainer(config)
        trainer.progress = progress.step
        progress.tell(trainer.memory())
        progress.steps = trainer.basis.steps
        with _cli.run_folder(config, progress):
            records = _report.keep(trainer.train(cells), folder / "metrics.jsonl", progress)
    if _pod.is_main():
        report(config, records)
    return records


def report(config: Config, records: Sequence[_report.Record]) -> None:
    """Writes and prints the table, the plot and the page."""
    folder = config.folder()
    title = f"{config.model} on {config.data}, run {config.hash()}"
    results = summarise(records)
    columns = ("method", *(f"{100 * density:g} %" for density in sorted(config.densities, reverse=True)))
    tables = {split: [columns, *_table(config, results, f"{split}_accuracy")] for split in ("test", "validation")}
    dense = _plot.Point(1.0, *results[DENSE][0]["test_accuracy"].values())
    _plot.accuracy(_curves(results), folder / "accuracy.png", title=title, dense=dense)
    head, *rows = tables["test"]
    _report.publish(
        folder,
        text=f"{title}: accuracy in %, ± 95 % interval over {config.seeds} seeds, by the weights kept\n\n"
        + "\n".join(_report.grid(head, rows, title=f"on {split}") for split, (head, *rows) in tables.items()),
        results=results,
        warnings=warnings(records),
        page=_html.page_of(config, title, columns=head, rows=rows),
        others="metrics.jsonl, and the tickets of all cells",
    )
    store_claims(config)


def store_claims(config: Config) -> None:
    """Of all that the run holds, so that another selection takes nothing away from what was stored before."""
    kept = _cells.finished(config.folder())
    series = {name: _evidence.percent(curve) for name, curve in _curves(summarise(kept)).items()}
    command = asking_for(config, kept).command()
    _evidence.store(config, claims(kept), command=command, series=series, axes=_evidence.AXES)


def asking_for(config: Config, records: Sequence[_report.Record]) -> Config:
    """The configuration that asks for what it does, and for the other methods, densities and seeds of the records."""
    sparse = [record for record in records if record["method"] != DENSE]
    return dataclasses.replace(
        config,
        methods=tuple(dict.fromkeys([*config.methods, *(record["method"] for record in sparse)])),
        densities=tuple(sorted({*config.densities, *(record["density"] for record in sparse)}, reverse=True)),
        seeds=max(config.seeds, *(1 + record["seed"] for record in records)),
    )


def summarise(records: Sequence[_report.Record]) -> dict[str, list[dict[str, Any]]]:
    """For each method, from dense to sparse: the density asked for, the part kept, and accuracies with intervals."""
    groups: dict[str, dict[float, list[_report.Record]]] = {}
    for record in records:
        groups.setdefault(record["method"], {}).setdefault(record["density"], []).append(record)
    return {
        method: [
            {
                "density": density,
                "kept": statistics.fmean(record["kept"] for record in members),
                **_report.accuracies(members),
            }
            for density, members in sorted(by_density.items(), reverse=True)
        ]
        for method, by_density in groups.items()
    }


def warnings(records: Sequence[_report.Record]) -> str:
    """A line for each layer that a method cut off, and for each method that could not keep to a density."""
    named = [{**record, "branch": record["method"]} for record in records]
    lines = _report.collapse(named, advice="no signal passes it")
    for method, rows in summarise(records).items():
        for row in rows:
            if abs(row["kept"] - row["density"]) > 0.1 * row["density"]:
                lines += f"warning: {_report.plain(method)} keeps {row['kept']:.4g} where {row['density']:g} is asked\n"
    return lines


def plan(config: Config) -> str:
    """What the command would do."""
    trainer, cells, folder = _trainer(config), config.cells(), config.folder()
    count, prunable = _plan.sizes(trainer.basis.model.init)
    finished = sum(cell.path(folder).exists() for cell in cells)
    shared = [len(program) for program in trainer.programs(cells)]
    kinds = len({cell.kind for cell in cells})
    return "\n".join(
        [
            _plan.folder(folder),
            f"trainings    {len(cells)}: {len(config.methods)} methods, {len(config.densities)} densities, "
            f"{config.seeds} seeds, and the dense network; {finished} of them are finished",
            f"each         {trainer.basis.steps} steps of {config.batch_size} examples",
            f"programs     {kinds}, run {len(shared)} times with at most {max(shared)} trainings each, "
            f"{trainer.placement.why}",
            f"parameters   {count:,}, of which {prunable:,} can be pruned",
            f"disk         at most {len(cells) * (4 * count + prunable / 8) / 2**20:.0f} MiB",
            _plan.TIME,
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    about = f"{__doc__}\nMethods: {', '.join(registry.METHODS)}.\n"
    return _cli.train_or_plan(Config(), argv, PRESETS, description=about, plan=plan, run=run)


def _trainer(config: Config) -> Trainer:
    return Trainer(config, config.folder(), together=len(config.densities) * config.seeds)


def _lines(seeds: int) -> _report.Rows:
    """A line for each method and density."""

    def line(row: Sequence[_report.Record]) -> str:
        accuracies = "  ".join(f"{100 * record['test_accuracy']:5.1f}" for record in row)
        return f"{_report.plain(row[0]['method']):19} density {row[0]['density']:<6g}  {accuracies}"

    return _report.Rows(lambda record: (record["method"], record["density"]), seeds, line)


def _curves(results: dict[str, list[dict[str, Any]]]) -> dict[str, list[_plot.Point]]:
    """Test accuracy against density of each sparse method."""
    return {
        _report.plain(method): [_plot.Point(r["density"], *r["test_accuracy"].values()) for r in rows]
        for method, rows in results.items()
        if method != DENSE
    }


def _table(config: Config, results: dict[str, list[dict[str, Any]]], split: str) -> list[tuple[str, ...]]:
    """The cells of a table; the dense network stands in every column, to compare with."""
    dense = [_report.shown(results[DENSE][0][split])] * len(config.densities)
    found = {method: [_report.shown(row[split]) for row in results[method]] for method in config.methods}
    return [(_report.plain(method), *row) for method, row in {DENSE: dense, **found}.items()]


if __name__ == "__main__":
    _pod.host_devices()  # cells side by side, one a core
    sys.exit(main())
