"""The study of one method on one network: its trainings, and its report."""

import dataclasses
import functools
from collections.abc import Sequence

from experiments.reports import page, plots, tables, tensorboard
from experiments.reports.progress import Rows
from experiments.reports.study import Watch
from experiments.runs.config import OwnProblem, require
from experiments.runs.records import CellRecord
from experiments.training import own
from experiments.training.cells import Cells
from experiments.training.kinds import Cell
from jaxticket import registry


@dataclasses.dataclass(frozen=True)
class Config(OwnProblem):
    """Train a network sparsely, by one method at one density."""

    EXPERIMENT = "train"
    NOT_HASHED = OwnProblem.NOT_HASHED | {"seeds", "tensorboard"}

    method: str = "rigl"
    """The name of a method in jaxticket.registry."""
    density: float = 0.1
    """The fraction of the weights to keep."""
    seeds: int = 3
    """Repetitions with other random numbers; the split of the data stays."""
    tensorboard: bool = False
    """Also write the course of each training as event files, into the folder tensorboard of the run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        registry.get(self.method)
        require(0 < self.density <= 1, self, "density", "above 0 and at most 1")
        require(self.seeds >= 1, self, "seeds", "at least 1")
        require(self.evidence is None, self, "evidence", "left out: one method tests no claim; compare.py tests them")

    def cells(self) -> list[Cell]:
        """Return a cell for each seed."""
        return [Cell(self.method, self.density, seed) for seed in range(self.seeds)]


def rows(config: Config) -> tuple[int, Rows]:
    """A line for each seed."""
    text = lambda r: f"seed {r.seed}  density {r.kept:.4f}  test {100 * r.metrics['test_accuracy']:5.1f}"
    return config.seeds, Rows(lambda record: record.seed, 1, lambda row: text(row[0]))


def prepare(config: Config, watch: Watch) -> Cells:
    """The network and its data; a line at each end of an epoch."""
    cells = Cells(config, config.folder(), together=config.seeds, basis=own.basis(config))
    cells.watch = functools.partial(cells.basis.evaluate, splits=("validation",))
    cells.compiling = watch.compiling
    cells.progress = watch.by_epoch(cells.basis.recipe.steps_per_epoch)
    watch.announce(cells.memory(), steps=cells.basis.steps)
    return cells


def plan(config: Config, cells: Cells) -> list[str]:
    """Return the lines of --dry-run."""
    method = registry.get(config.method)
    finished = sum(cell.path(config.folder()).exists() for cell in config.cells())
    return [
        f"method       {method.paper}: {method.arguments}",
        f"trainings    {config.seeds}, {finished} of them finished; {cells.placement.why}",
        f"each         {cells.basis.steps} steps of {config.batch_size} examples",
    ]


def report(config: Config, cells: Cells, records: Sequence[CellRecord]) -> None:
    """Write and print the tables, the plot, the page, and with --tensorboard the event files."""
    folder = config.folder()
    name = tables.plain(config.method)
    title = f"{name} at density {config.density:g}: {config.setting}, run {config.hash()}"
    columns = ("seed", "kept", "test", "validation")
    percent = lambda r, split: f"{100 * r.metrics[f'{split}_accuracy']:.2f}"
    rows = [(str(r.seed), f"{r.kept:.4f}", percent(r, "test"), percent(r, "validation")) for r in records]
    accuracies = tables.accuracies(records)
    rows.append(("mean", "", *(tables.shown(accuracies[f"{split}_accuracy"]) for split in columns[2:])))
    layers = tables.Layers("Weights kept by layer: seed 0", config.cells()[0].path(folder))
    plots.history(records, folder / "accuracy.png", title=title)
    tables.publish(
        folder,
        text=f"{title}\n\n"
        + tables.grid(columns, rows, title="accuracy in %, the mean with its 95 % interval")
        + "\n"
        + layers.text(),
        results={"seeds": [record.line() for record in records], "mean": accuracies},
        warnings=tables.collapse(records),
        columns=columns,
        rows=rows,
        page=page.page_of(
            config,
            title,
            layers=layers,
            shows="Validation accuracy and density over the training",
            heading="Accuracy in %, the mean with its 95 % interval over seeds",
        ),
        others=f"metrics.jsonl, and the tickets {config.cells()[0].path(folder).parent.relative_to(folder)}/seed_…",
    )
    if config.tensorboard:
        tensorboard.write(folder / "tensorboard", tensorboard.over_steps(records))
