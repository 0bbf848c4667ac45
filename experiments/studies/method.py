"""One method on one network: what is trained, and its report."""

import dataclasses
import pathlib
from collections.abc import Sequence

from experiments.reports import page, plots, tables, tensorboard
from experiments.runs.config import Training, require
from experiments.runs.records import Record
from experiments.training.kinds import Cell
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


def report(config: Config, records: Sequence[Record]) -> None:
    """Writes and prints the tables, the plot, the page, and with --tensorboard the event files."""
    folder = config.folder()
    name = tables.plain(config.method)
    title = f"{name} at density {config.density:g}: {config.model} on {config.data}, run {config.hash()}"
    columns = ("seed", "kept", "test", "validation")
    percent = lambda value: f"{100 * value:.2f}"
    rows = [
        (str(r["seed"]), f"{r['kept']:.4f}", percent(r["test_accuracy"]), percent(r["validation_accuracy"]))
        for r in records
    ]
    found = tables.accuracies(records)
    rows.append(("mean", "", *(tables.shown(found[f"{split}_accuracy"]) for split in columns[2:])))
    plot(records, folder / "accuracy.png", title=title)
    named = [{**record, "branch": record["method"]} for record in records]
    tables.publish(
        folder,
        text=f"{title}\n\n"
        + tables.grid(columns, rows, title="accuracy in %, the mean with its 95 % interval")
        + "\n"
        + tables.layers(config.cells()[0].path(folder), title="what seed 0 keeps of each layer"),
        results={"seeds": list(records), "mean": found},
        warnings=tables.collapse(named, advice="no signal passes it"),
        page=page.page_of(
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
        tensorboard.write(folder / "tensorboard", tensorboard.over_steps(records))


def plot(records: Sequence[Record], file: pathlib.Path, *, title: str) -> None:
    """Validation accuracy and density over the training; nothing is chosen by test examples."""
    steps = [seen["step"] for seen in records[0]["history"]]
    epochs = list(zip(*(record["history"] for record in records), strict=True))
    points = [
        plots.Point(epoch[0]["density"], *diagnostics.interval(seen["validation_accuracy"] for seen in epoch))
        for epoch in epochs
    ]
    with plots.figure(file) as axes:
        plots.band(axes, steps, points)
        axes.set(xlabel="step", ylabel="validation accuracy (%)", title=title)
        right = axes.twinx()
        right.plot(steps, [100 * point.density for point in points], color="gray", linestyle=":")
        right.set(yscale="log", ylabel="weights kept (%, dotted)")
