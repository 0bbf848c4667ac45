"""Methods of the field side by side: each at several densities, with several seeds, in one command.

    python experiments/compare.py                                   three methods on digits, and the dense network
    python experiments/compare.py --methods random_erk,snip,rigl,ste --densities 0.1,0.05,0.02,0.01 --seeds 3
    python experiments/compare.py --problem my_problem.py:build     your own network and data: train.py says more
    python experiments/compare.py --dry-run                         the plan, and nothing else
    python experiments/compare.py --preset resnet20_cifar           the network, data and recipe of a file in configs/

A method is any name of `jaxticket.registry`. A seed has the same first weights and the same order of examples under all
methods. The same command resumes a killed run; more methods, densities or seeds extend it.
"""

import pathlib
import sys
from collections.abc import Iterator, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.configs import PRESETS
from experiments.reports import study, tables
from experiments.reports.progress import Rows
from experiments.reports.study import Watch
from experiments.runs import command_line, dry_run, processes
from experiments.runs.records import CellRecord
from experiments.studies.comparison.config import Config
from experiments.studies.comparison.report import report
from experiments.training import own
from experiments.training.cells import Cells
from jaxticket import registry

ABOUT = f"{__doc__}\nMethods: {', '.join(registry.METHODS)}.\n"


def rows(config: Config) -> tuple[int, Rows]:
    """A line for each method and density."""

    def line(row: Sequence[CellRecord]) -> str:
        accuracies = "  ".join(f"{100 * record.metrics['test_accuracy']:5.1f}" for record in row)
        return f"{tables.plain(row[0].method):19} density {row[0].density:<6g}  {accuracies}"

    return len(config.cells()), Rows(lambda record: (record.method, record.density), config.seeds, line)


def prepare(config: Config, watch: Watch) -> Cells:
    """The network, its data, and how the cells are trained."""
    together = len(config.densities) * config.seeds
    trainer = Cells(config, config.folder(), together=together, basis=own.basis(config))
    trainer.progress, trainer.compiling = watch.step, watch.compiling
    watch.announce(trainer.memory(), steps=trainer.basis.steps)
    return trainer


def train(config: Config, trainer: Cells, watch: Watch) -> Iterator[CellRecord]:
    """The records of all cells."""
    return trainer.train(config.cells())


def plan(config: Config, trainer: Cells) -> list[str]:
    """Return the lines of --dry-run."""
    cells = config.cells()
    count, prunable = dry_run.sizes(trainer.basis.model.init)
    finished = sum(cell.path(config.folder()).exists() for cell in cells)
    shared = [len(program) for program in trainer.programs(cells)]
    kinds = len({cell.kind for cell in cells})
    return [
        f"trainings    {len(cells)}: {len(config.methods)} methods, {len(config.densities)} densities, "
        f"{config.seeds} seeds, and the dense network; {finished} of them are finished",
        f"each         {trainer.basis.steps} steps of {config.batch_size} examples",
        f"programs     {kinds}, run {len(shared)} times with at most {max(shared)} trainings each, "
        f"{trainer.placement.why}",
        f"parameters   {count:,}, of which {prunable:,} can be pruned",
        f"disk         at most {len(cells) * (4 * count + prunable / 8) / 2**20:.0f} MiB",
        dry_run.TIME,
    ]


STUDY = study.Study(
    configure=lambda argv: command_line.training_config(Config(), argv, PRESETS, description=ABOUT),
    rows=rows,
    prepare=prepare,
    records=train,
    report=report,
    plan=plan,
    prunes=lambda config, trainer: trainer.prunable(config.densities),
)
main = STUDY.main

if __name__ == "__main__":
    processes.host_devices()  # cells side by side, one a core
    sys.exit(main())
