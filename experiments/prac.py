"""Tickets found on few examples: those hard to learn, and those that pruning forgets.

    python experiments/prac.py                            LeNet-300-100 on Fashion-MNIST: configs/prac_fashion.py
    python experiments/prac.py --preset lenet_mnist5k     on digits that need no download, in a few minutes
    python experiments/prac.py --preset resnet20_cifar --rewind-fraction 0.0165     on a GPU, with late rewinding
    python experiments/prac.py --model conv_4 --data cifar10 --sets-from runs/prac-0123456789
    python experiments/prac.py --dry-run                  the plan, and nothing else

After Zhang et al., "Efficient Lottery Ticket Finding: Less Data is More" (2021). Beside PrAC sets stand iterative
pruning on all examples, random sets of the same sizes, and the hard examples alone; each ticket is trained on all
examples in the end, as is the PrAC ticket with its weights in random places, and the dense network. With --rewind-step
all of these, and all rounds after the first, start from weights early in the first round, which every arm trains on all
examples; its cost is counted once. The same command resumes a killed run; more seeds extend it.
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.configs import conv4_cifar, lenet_mnist5k, prac_fashion, resnet20_cifar
from experiments.reports import study, tables
from experiments.reports.progress import Rows
from experiments.runs import command_line, dry_run, environment
from experiments.runs.records import ArmRecord
from experiments.studies.prac.report import report
from experiments.studies.prac.search import ARMS, OTHERS, Config, Lab, lab, search
from jaxticket import schedules

PRESETS = {
    module.__name__.rpartition(".")[2]: module for module in (prac_fashion, lenet_mnist5k, conv4_cifar, resnet20_cifar)
}


def rows(config: Config) -> tuple[int, Rows]:
    """A line for each ticket."""

    def line(row: Sequence[ArmRecord]) -> str:
        (record,) = row
        saved = "" if record.saved is None else f", {100 * record.saved:.1f} % of the iterations saved"
        accuracy = f"{100 * record.metrics['test_accuracy']:5.2f}"
        return f"seed {record.seed + 1}/{config.seeds}  {tables.plain(record.branch):14} {accuracy}{saved}"

    return config.seeds * len((*ARMS, *OTHERS)), Rows(lambda record: (record.seed, record.branch), 1, line)


def plan(config: Config, shared: Lab) -> list[str]:
    """Return the lines of --dry-run."""
    count, _ = dry_run.sizes(shared.basis.model.init)
    whole, tickets = config.seeds * config.epochs, config.seeds * len((*ARMS, *OTHERS))
    return [
        f"searches     {config.seeds * len(ARMS)}: {config.seeds} seeds of {', '.join(map(tables.plain, ARMS))}; "
        f"{config.rounds} rounds each",
        f"epochs       {whole * config.rounds} of imp; the others at most as many, on parts of the "
        f"{shared.recipe.examples:,} examples; {tickets * config.epochs} of tickets on all of them",
        f"rewound to   step {config.plan('prac', shared.steps).rewind_step} of {shared.steps} of the first round",
        f"parameters   {count:,}",
        f"disk         at most {2**-20 * 4 * count * (7 * config.rounds + 2 * tickets):.0f} MiB",
        dry_run.TIME,
    ]


STUDY = study.Study(
    configure=lambda argv: command_line.training_config(Config(), argv, PRESETS, description=__doc__),
    rows=rows,
    prepare=lambda config, watch: lab(config, **watch.looks),
    records=lambda config, shared, watch: search(config, shared, config.folder()),
    report=lambda config, shared, records: report(config, records, examples=shared.recipe.examples),
    plan=plan,
    prunes=lambda config, shared: environment.prunable(
        shared.basis.init, [*schedules.levels(config.rounds, rate=config.rate)]
    ),
)
main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
