"""Strong tickets: the accuracy of an untrained network, if only the choice of its weights is learnt.

    python experiments/strong_tickets.py                           five searches in a narrow and a wide network
    python experiments/strong_tickets.py --methods edge_popup,biprop --densities 0.5,0.3 --widths 16,32,64,128
    python experiments/strong_tickets.py --weights signed_constant
    python experiments/strong_tickets.py --dry-run                 the plan, and nothing else

Edge-popup, Biprop and signed supermasks; edge-popup with weights that are recycled or redrawn between epochs; beside
them the weights trained under a random mask, and the dense network trained. A seed has the same first weights and the
same order of examples under all methods. The same command resumes a killed run; more methods, densities, widths or
seeds extend it.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.configs import strong_mnist5k
from experiments.reports import study, tables
from experiments.reports.progress import Rows
from experiments.reports.study import Watch
from experiments.runs import command_line, dry_run, processes
from experiments.runs.records import CellRecord
from experiments.studies.strong.report import name_of, report
from experiments.studies.strong.search import Config, trainer
from experiments.training.cells import Cells

PRESETS = {"strong_mnist5k": strong_mnist5k}


def rows(config: Config) -> tuple[int, Rows]:
    """A line for each width, method and density."""

    def line(row: Sequence[CellRecord]) -> str:
        first = row[0]
        accuracies = "  ".join(f"{100 * record.metrics['test_accuracy']:5.1f}" for record in row)
        name = tables.plain(name_of(first.method, first.metrics["width"]))
        return f"{name:31} density {first.density:<6g}  {accuracies}"

    return len(config.widths) * len(config.cells()), Rows(
        lambda record: (record.metrics["width"], record.method, record.density), config.seeds, line
    )


def prepare(config: Config, watch: Watch) -> dict[int, Cells]:
    """The trainers of each width."""
    trainers = {width: trainer(config, width) for width in config.widths}
    for cells in trainers.values():
        cells.progress, cells.compiling = watch.step, watch.compiling
    return trainers


def search(config: Config, trainers: dict[int, Cells], watch: Watch) -> Iterator[CellRecord]:
    """The records of all cells, width by width."""
    for width, each in trainers.items():
        for record in each.train(config.cells()):
            yield dataclasses.replace(record, metrics={**record.metrics, "width": width})


def plan(config: Config, trainers: dict[int, Cells]) -> Iterator[str]:
    """Return the lines of --dry-run."""
    cells = config.cells()
    for width, each in trainers.items():
        count, _ = dry_run.sizes(each.basis.model.init)
        finished = sum(cell.path(each.folder).exists() for cell in cells)
        yield f"width {width:<6} {count:,} parameters; {len(cells)} trainings, {finished} of them finished"
        yield f"             {len(each.programs(cells))} programs of {each.lanes} trainings, {each.placement.why}"
    yield f"each         {each.basis.steps} steps of {config.batch_size} examples"
    yield dry_run.TIME


def prunes(config: Config, trainers: dict[int, Cells]) -> str:
    """Return the table of each width."""
    return "\n".join(f"width {width}, {each.prunable(config.densities)}" for width, each in trainers.items())


STUDY = study.Study(
    configure=lambda argv: command_line.training_config(Config(), argv, PRESETS, description=__doc__),
    rows=rows,
    prepare=prepare,
    records=search,
    report=lambda config, trainers, records: report(config, records),
    plan=plan,
    prunes=prunes,
)
main = STUDY.main

if __name__ == "__main__":
    processes.host_devices()  # cells side by side, one a core
    sys.exit(main())
