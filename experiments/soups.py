"""Sparse model soups: the average of retrained copies, against one network that is pruned and retrained as long.

    python experiments/soups.py                                  LeNet-300-100 on digits, to 5 % and to 2 %
    python experiments/soups.py --vary weight_decays --densities 0.02
    python experiments/soups.py --dry-run                        the plan, and nothing else

After Zimmer, Spiegel & Pokutta, "Sparse Model Soups" (2024). In each phase the network is pruned, copies of it are
retrained, and their average is the start of the next phase. Beside it stand the copies (the best on validation
examples, their mean, their prediction ensemble) and pruning one network that is retrained as long as one copy, or as
all of them. The same command resumes a killed run; more densities or seeds extend it. The default takes 2½ minutes of
CPU time.
"""

import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.claims import levels
from experiments.configs import CONSTANT as PRESETS  # here the learning rate falls on a line
from experiments.reports import searches, study
from experiments.reports.progress import Rows
from experiments.runs import command_line, dry_run, environment, processes
from experiments.runs.records import LevelRecord
from experiments.studies.soups.claims import claims
from experiments.studies.soups.lab import Config, Lab, lab
from experiments.studies.soups.search import BRANCHES, search


def rows(config: Config) -> tuple[int, Rows]:
    """A line for each phase of each seed."""
    return config.seeds * len(config.levels()) * len(BRANCHES), searches.by_level(config.seeds, BRANCHES)


def report(config: Config, shared: Lab, records: Sequence[LevelRecord]) -> None:
    """Write and print the table, the plot, the page and the claims."""
    title = f"soups of {config.members} × {config.model} on {config.data}, run {config.hash()}"
    levels.report(config, records, BRANCHES, title=title, claims=claims(config, records))


def plan(config: Config, shared: Lab) -> list[str]:
    """Return the lines of --dry-run."""
    count, _ = dry_run.sizes(shared.basis.model.init)
    phases = len(config.levels())
    epochs = config.epochs + phases * config.retrain_epochs * (2 * config.members + 1)
    return [
        f"phases       {phases}, densities {' '.join(f'{density:.4g}' for density, _ in config.levels())}",
        f"trainings    {config.seeds * (1 + phases * (config.members + 2))}: {config.seeds} seeds, of each the "
        f"dense network and in each phase {config.members} members and 2 that are pruned alone",
        f"epochs       {config.seeds * epochs}; seeds {shared.placement.why}",
        f"parameters   {count:,}",
        f"disk         at most {config.seeds * (1 + 6 * phases) * 4 * count / 2**20:.0f} MiB",
    ]


STUDY = study.Study(
    configure=lambda argv: command_line.training_config(Config(), argv, PRESETS, description=__doc__),
    rows=rows,
    prepare=lambda config, watch: lab(config),
    records=lambda config, shared, watch: search(config, shared, **watch.looks),
    report=report,
    plan=plan,
    prunes=lambda config, shared: environment.prunable(shared.basis.init, config.densities),
)
main = STUDY.main

if __name__ == "__main__":
    processes.host_devices()  # seeds side by side, one a core
    sys.exit(main())
