"""One method on one network: sparse training with live progress, and the trained tickets.

    python experiments/train.py --method rigl --density 0.1
    python experiments/train.py --method synflow --density 0.02 --epochs 30
    python experiments/train.py --method granet --preset resnet20_cifar    data and recipe of a file in configs/
    python experiments/train.py --method gradual --dry-run                 the plan, and nothing else

A method is any name of `jaxticket.registry`; `experiments/compare.py` trains several. A run that was killed goes on
when the same command is given again, and more seeds extend it. `jaxticket.load` reads the tickets: trained weights with
their mask.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script


from experiments import _cli, _events, _html, _plan, _plot, _pod, _report
from experiments._cells import Trainer
from experiments._config import Training, require
from experiments._kinds import Cell
from experiments.imp import PRESETS
from jaxticket import diagnostics, registry


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Train a network sparsely, by one method at one density."""

    EXPERIMENT = "train"
    NOT_HASHED = Training.NOT_HASHED | {"seeds", "tensorboard"}

    method: str = "rigl"
    """A name of jaxticket.registry."""
    density: float = 0.1
    """The fraction of the weights to keep."""
    seeds: int = 3
    """Repetitions of everything with other random numbers (the split of the data stays)."""
    tensorboard: bool = False
    """Also write the course of each training as event files, into the folder tensorboard of the run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        registry.get(self.method)
        require(0 < self.density <= 1, self, "density", "above 0 and at most 1")
        require(self.seeds >= 1, self, "seeds", "at least 1")
        require(self.evidence is None, self, "evidence", "left out: one method tests no claim; compare.py tests them")

    def cells(self) -> list[Cell]:
        """One for each seed."""
        return [Cell(self.method, self.density, seed) for seed in range(self.seeds)]


def run(config: Config) -> list[_report.Record]:
    """Trains what is not trained yet, and reports. Returns the record of each seed."""
    folder = config.folder()
    with _report.Progress(config.seeds, _report.Rows(lambda record: record["seed"], 1, _line)) as progress:
        trainer = _trainer(config)
        per_epoch = trainer.basis.recipe.steps_per_epoch

        def step(at: int, loss: float) -> None:
            progress.step(at, loss)
            if at % per_epoch == 0:
                progress.say(f"epoch {at // per_epoch:3}/{config.epochs}  loss {loss:.4f}")

        trainer.progress = step
        progress.tell(trainer.memory())
        progress.steps = trainer.basis.steps
        with _cli.run_folder(config, progress):
            records = _report.keep(trainer.train(config.cells()), folder / "metrics.jsonl", progress)
    if _pod.is_main():
        report(config, records)
    return records


def report(config: Config, records: Sequence[_report.Record]) -> None:
    """Writes and prints the tables, the plot, the page, and with --tensorboard the event files."""
    folder = config.folder()
    name = _report.plain(config.method)
    title = f"{name} at density {config.density:g}: {config.model} on {config.data}, run {config.hash()}"
    columns = ("seed", "kept", "test", "validation")
    percent = lambda value: f"{100 * value:.2f}"
    rows = [
        (str(r["seed"]), f"{r['kept']:.4f}", percent(r["test_accuracy"]), percent(r["validation_accuracy"]))
        for r in records
    ]
    found = _report.accuracies(records)
    rows.append(("mean", "", *(_report.shown(found[f"{split}_accuracy"]) for split in columns[2:])))
    plot(records, folder / "accuracy.png", title=title)
    named = [{**record, "branch": record["method"]} for record in records]
    _report.publish(
        folder,
        text=f"{title}\n\n"
        + _report.grid(columns, rows, title="accuracy in %, the mean with its 95 % interval")
        + "\n"
        + _report.layers(config.cells()[0].path(folder), title="what seed 0 keeps of each layer"),
        results={"seeds": list(records), "mean": found},
        warnings=_report.collapse(named, advice="no signal passes it"),
        page=_html.page_of(
            config,
            title,
            columns=columns,
            rows=rows,
            shows="Validation accuracy and density over the training",
            heading="Accuracy in %, the mean with its 95 % interval over seeds",
        ),
        others=f"metrics.jsonl, and the tickets {config.cells()[0].path(folder).parent.relative_to(folder)}/seed_…",
    )
    if config.tensorboard:
        _events.write(folder / "tensorboard", _events.over_steps(records))


def plot(records: Sequence[_report.Record], file: pathlib.Path, *, title: str) -> None:
    """Validation accuracy and density over the training; nothing is chosen by test examples."""
    steps = [seen["step"] for seen in records[0]["history"]]
    epochs = list(zip(*(record["history"] for record in records), strict=True))
    points = [
        _plot.Point(epoch[0]["density"], *diagnostics.interval(seen["validation_accuracy"] for seen in epoch))
        for epoch in epochs
    ]
    with _plot.figure(file) as axes:
        _plot.band(axes, steps, points)
        axes.set(xlabel="step", ylabel="validation accuracy (%)", title=title)
        right = axes.twinx()
        right.plot(steps, [100 * point.density for point in points], color="gray", linestyle=":")
        right.set(yscale="log", ylabel="weights kept (%, dotted)")


def plan(config: Config) -> str:
    """What the command would do."""
    trainer, folder, method = _trainer(config), config.folder(), registry.get(config.method)
    finished = sum(cell.path(folder).exists() for cell in config.cells())
    return "\n".join(
        [
            _plan.folder(folder),
            f"method       {method.paper}: {method.arguments}",
            f"trainings    {config.seeds}, {finished} of them finished; {trainer.placement.why}",
            f"each         {trainer.basis.steps} steps of {config.batch_size} examples",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    about = f"{__doc__}\nMethods: {', '.join(registry.METHODS)}.\n"
    return _cli.train_or_plan(Config(), argv, PRESETS, description=about, plan=plan, run=run)


def _trainer(config: Config) -> Trainer:
    trainer = Trainer(config, config.folder(), together=config.seeds)
    trainer.watch = functools.partial(trainer.basis.evaluate, splits=("validation",))
    return trainer


def _line(row: Sequence[_report.Record]) -> str:
    (record,) = row
    return f"seed {record['seed']}  density {record['kept']:.4f}  test {100 * record['test_accuracy']:5.1f}"


if __name__ == "__main__":
    _pod.host_devices()  # seeds side by side, one a core
    sys.exit(main())
