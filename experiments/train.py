"""One method on one network: sparse training with live progress, and the trained tickets.

    python experiments/train.py --method rigl --density 0.1
    python experiments/train.py --method synflow --density 0.02 --epochs 30
    python experiments/train.py --method granet --preset resnet20_cifar    data and recipe of a file in configs/
    python experiments/train.py --method gradual --dry-run                 the plan, and nothing else

A method is any name of `jaxticket.registry`; `experiments/compare.py` trains several. A run that was killed goes on
when the same command is given again, and more seeds extend it. `jaxticket.load` reads the tickets: trained weights with
their mask.
"""

import functools
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script


from experiments.configs import PRESETS
from experiments.reports.progress import Progress, Rows, keep, run_folder
from experiments.runs import command_line, dry_run, processes
from experiments.runs.records import Record
from experiments.studies.method import Config, report
from experiments.training.cells import Cells
from jaxticket import registry


def run(config: Config) -> list[Record]:
    """Trains what is not trained yet, and reports. Returns the record of each seed."""
    folder = config.folder()
    with Progress(config.seeds, Rows(lambda record: record["seed"], 1, _line)) as progress:
        trainer = _trainer(config)
        per_epoch = trainer.basis.recipe.steps_per_epoch

        def step(at: int, loss: float) -> None:
            progress.step(at, loss)
            if at % per_epoch == 0:
                progress.say(f"epoch {at // per_epoch:3}/{config.epochs}  loss {loss:.4f}")

        trainer.progress = step
        progress.tell(trainer.memory())
        progress.steps = trainer.basis.steps
        with run_folder(config, progress):
            records = keep(trainer.train(config.cells()), folder / "metrics.jsonl", progress)
    if processes.is_main():
        report(config, records)
    return records


def plan(config: Config) -> str:
    """What the command would do."""
    trainer, folder, method = _trainer(config), config.folder(), registry.get(config.method)
    finished = sum(cell.path(folder).exists() for cell in config.cells())
    return "\n".join(
        [
            dry_run.folder(folder),
            f"method       {method.paper}: {method.arguments}",
            f"trainings    {config.seeds}, {finished} of them finished; {trainer.placement.why}",
            f"each         {trainer.basis.steps} steps of {config.batch_size} examples",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    about = f"{__doc__}\nMethods: {', '.join(registry.METHODS)}.\n"
    return command_line.train_or_plan(Config(), argv, PRESETS, description=about, plan=plan, run=run)


def _trainer(config: Config) -> Cells:
    trainer = Cells(config, config.folder(), together=config.seeds)
    trainer.watch = functools.partial(trainer.basis.evaluate, splits=("validation",))
    return trainer


def _line(row: Sequence[Record]) -> str:
    (record,) = row
    return f"seed {record['seed']}  density {record['kept']:.4f}  test {100 * record['test_accuracy']:5.1f}"


if __name__ == "__main__":
    processes.host_devices()  # seeds side by side, one a core
    sys.exit(main())
