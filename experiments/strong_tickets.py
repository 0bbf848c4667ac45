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


from experiments.configs import strong_mnist5k
from experiments.reports import tables
from experiments.reports.progress import Progress, Rows, keep, run_folder
from experiments.runs import command_line, dry_run, processes
from experiments.runs.records import Record
from experiments.studies.strong.report import name_of, report
from experiments.studies.strong.search import Config, trainer
from experiments.training.cells import Cells

PRESETS = {"strong_mnist5k": strong_mnist5k}


def search(config: Config, trainers: dict[int, Cells]) -> Iterator[dict[str, Any]]:
    """The records of all cells, width by width."""
    for width, each in trainers.items():
        for record in each.train(config.cells()):
            yield {**record, "width": width}


def run(config: Config) -> list[Record]:
    """Trains what is not trained yet, and reports. Returns the records of all cells."""
    folder = config.folder()
    with Progress(len(config.widths) * len(config.cells()), _lines(config.seeds)) as progress:
        trainers = {width: trainer(config, width) for width in config.widths}
        for each in trainers.values():
            each.progress = progress.step
        with run_folder(config, progress):
            records = keep(search(config, trainers), folder / "metrics.jsonl", progress)
    if processes.is_main():
        report(config, records)
    return records


def plan(config: Config) -> str:
    """What the command would do."""
    folder, cells = config.folder(), config.cells()
    lines = [dry_run.folder(folder)]
    for width in config.widths:
        each = trainer(config, width)
        count, _ = dry_run.sizes(each.basis.model.init)
        finished = sum(cell.path(each.folder).exists() for cell in cells)
        programs = each.programs(cells)
        lines += [
            f"width {width:<6} {count:,} parameters; {len(cells)} trainings, {finished} of them finished",
            f"             {len(programs)} programs of {each.lanes} trainings, {each.placement.why}",
        ]
    lines += [
        f"each         {each.basis.steps} steps of {config.batch_size} examples",
        dry_run.TIME,
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    return command_line.train_or_plan(Config(), argv, PRESETS, description=__doc__, plan=plan, run=run)


def _lines(seeds: int) -> Rows:
    """A line for each width, method and density."""

    def line(row: Sequence[Record]) -> str:
        first = row[0]
        accuracies = "  ".join(f"{100 * record['test_accuracy']:5.1f}" for record in row)
        name = tables.plain(name_of(first["method"], first["width"]))
        return f"{name:31} density {first['density']:<6g}  {accuracies}"

    return Rows(lambda record: (record["width"], record["method"], record["density"]), seeds, line)


if __name__ == "__main__":
    processes.host_devices()  # cells side by side, one a core
    sys.exit(main())
