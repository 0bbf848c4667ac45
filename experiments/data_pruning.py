"""Data pruning: the examples that are worth training on, and the loss without the others.

    python experiments/data_pruning.py                              digits: three scores, four fractions, three seeds
    python experiments/data_pruning.py --preset data_pruning_fashion --scores el2n,grand,prototypes,random
    python experiments/data_pruning.py --sizes 500,1000,3500        the turn from easy to hard with the budget of data
    python experiments/data_pruning.py --label-noise 0.2            scores as detectors of wrong labels
    python experiments/data_pruning.py --scores el2n,memorisation,random        180 more networks, on random parts
    python experiments/data_pruning.py --distil el2n,random         students of a network that was trained on all data
    python experiments/data_pruning.py --score-width 30             scores by a narrower network than is trained
    python experiments/data_pruning.py --dry-run                    the plan, and nothing else

Networks with seeds of their own score the training examples; their mean ranks them. The hardest, the easiest and random
parts are then trained on, each as many steps as all data. A seed has the same first weights under all of them. Scores
and subsets see training examples only, and nothing is chosen by validation or test. The same command resumes a killed
run; more scores, orders, fractions, sizes or seeds extend it.
"""

import functools
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments.configs import data_pruning_fashion, lenet_mnist5k
from experiments.reports import study, tables
from experiments.reports.progress import Rows
from experiments.reports.study import Watch
from experiments.runs import command_line, processes
from experiments.runs.records import SubsetRecord
from experiments.studies.data_pruning import findings, report, scores
from experiments.studies.data_pruning.config import Config, Study
from experiments.studies.data_pruning.plan import plan, prepare
from experiments.studies.data_pruning.report import Scored
from experiments.studies.data_pruning.scores import Scorer
from experiments.studies.data_pruning.students import Students

PRESETS = {"lenet_mnist5k": lenet_mnist5k, "data_pruning_fashion": data_pruning_fashion}


class Shared(NamedTuple):
    """The values that the trainings share: the studies and, once they are scored, the scores of their examples."""

    studies: list[Study]
    scored: list[Scored]


def rows(config: Config) -> tuple[int, Rows]:
    """A line for each subset; networks that score count as trainings."""

    def line(row: Sequence[SubsetRecord]) -> str:
        accuracies = "  ".join(f"{100 * r.metrics['test_accuracy']:5.1f}" for r in row if r.metrics)
        return f"{tables.plain(row[0].name):31} {row[0].examples:>6,} examples  {accuracies}"

    return len(config.sizes) * config.networks() + len(config.cells()), Rows(
        lambda record: (record.size, record.name, record.fraction), config.seeds, line
    )


def train(config: Config, shared: Shared, watch: Watch) -> Iterator[SubsetRecord]:
    """The records of all cells, once the examples are scored."""
    progress, cells = watch.progress, config.cells()
    options = {**watch.looks, "until": functools.partial(setattr, progress, "steps")}
    shared.scored.extend(score(config, study, finished=progress.finished, **options) for study in shared.studies)
    for each, values, _ in shared.scored:
        students = Students(config, each, scores.averaged(values), **options)
        yield from students.train([cell for cell in cells if cell.size == each.size])


def score(config: Config, study: Study, **options: Any) -> Scored:
    """Return the scores of a study's examples, and their trustworthiness."""
    names = config.scored()
    if not names:
        return Scored(study, {}, {})
    scorer = Scorer(config, study, model=scores.score_model(config, study), name=config.scorer(), **options)
    by_name, own = scorer.scores(names), None
    if config.transfers():
        own = Scorer(config, study, model=study.basis.model, name="same", **options).scores(names)
    return Scored(study, by_name, findings.trust(study, by_name, own))


STUDY = study.Study(
    configure=lambda argv: command_line.training_config(Config(), argv, PRESETS, description=__doc__),
    rows=rows,
    prepare=lambda config, watch: Shared(prepare(config), []),
    records=train,
    report=lambda config, shared, records: report.write(config, records, shared.scored),
    plan=lambda config, shared: plan(config, shared.studies),
    prunes=None,
)
main = STUDY.main

if __name__ == "__main__":
    processes.host_devices()  # trainings side by side, one a core
    sys.exit(main())
