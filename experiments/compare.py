"""Methods of the field side by side: each at several densities, with several seeds, in one command.

    python experiments/compare.py                                   three methods on digits, and the dense network
    python experiments/compare.py --methods static,snip,rigl,ste --densities 0.1,0.05,0.02,0.01 --seeds 3
    python experiments/compare.py --dry-run                         the plan, and nothing else
    python experiments/compare.py --preset resnet20_cifar           the network, data and recipe of a file in configs/

A method is any name of `jaxticket.registry`. A seed has the same first weights and the same order of examples under all
methods. A run that was killed goes on when the same command is given again; more methods, densities or seeds extend it.
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script


from experiments.configs import PRESETS
from experiments.reports import tables
from experiments.reports.progress import Progress, Rows, keep, run_folder
from experiments.runs import command_line, dry_run, processes
from experiments.runs.records import Record
from experiments.studies.comparison.config import Config
from experiments.studies.comparison.report import report
from experiments.training.cells import Cells
from jaxticket import registry


def run(config: Config) -> list[Record]:
    """Trains what is not trained yet, and reports. Returns the records of all cells."""
    folder, cells = config.folder(), config.cells()
    with Progress(len(cells), _lines(config.seeds)) as progress:
        trainer = _trainer(config)
        trainer.progress = progress.step
        progress.tell(trainer.memory())
        progress.steps = trainer.basis.steps
        with run_folder(config, progress):
            records = keep(trainer.train(cells), folder / "metrics.jsonl", progress)
    if processes.is_main():
        report(config, records)
    return records


def plan(config: Config) -> str:
    """What the command would do."""
    trainer, cells, folder = _trainer(config), config.cells(), config.folder()
    count, prunable = dry_run.sizes(trainer.basis.model.init)
    finished = sum(cell.path(folder).exists() for cell in cells)
    shared = [len(program) for program in trainer.programs(cells)]
    kinds = len({cell.kind for cell in cells})
    return "\n".join(
        [
            dry_run.folder(folder),
            f"trainings    {len(cells)}: {len(config.methods)} methods, {len(config.densities)} densities, "
            f"{config.seeds} seeds, and the dense network; {finished} of them are finished",
            f"each         {trainer.basis.steps} steps of {config.batch_size} examples",
            f"programs     {kinds}, run {len(shared)} times with at most {max(shared)} trainings each, "
            f"{trainer.placement.why}",
            f"parameters   {count:,}, of which {prunable:,} can be pruned",
            f"disk         at most {len(cells) * (4 * count + prunable / 8) / 2**20:.0f} MiB",
            dry_run.TIME,
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    about = f"{__doc__}\nMethods: {', '.join(registry.METHODS)}.\n"
    return command_line.train_or_plan(Config(), argv, PRESETS, description=about, plan=plan, run=run)


def _trainer(config: Config) -> Cells:
    return Cells(config, config.folder(), together=len(config.densities) * config.seeds)


def _lines(seeds: int) -> Rows:
    """A line for each method and density."""

    def line(row: Sequence[Record]) -> str:
        accuracies = "  ".join(f"{100 * record['test_accuracy']:5.1f}" for record in row)
        return f"{tables.plain(row[0]['method']):19} density {row[0]['density']:<6g}  {accuracies}"

    return Rows(lambda record: (record["method"], record["density"]), seeds, line)


if __name__ == "__main__":
    processes.host_devices()  # cells side by side, one a core
    sys.exit(main())
