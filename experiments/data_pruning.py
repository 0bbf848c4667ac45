"""Data pruning: which examples are worth training on, and how much is lost without the others?

    python experiments/data_pruning.py                              digits: three scores, four fractions, three seeds
    python experiments/data_pruning.py --preset data_pruning_fashion --scores el2n,grand,prototypes,random
    python experiments/data_pruning.py --sizes 500,1000,3500        the turn from easy to hard with the budget of data
    python experiments/data_pruning.py --label-noise 0.2            do the scores find wrong labels?
    python experiments/data_pruning.py --scores el2n,memorisation,random        180 more networks, on random parts
    python experiments/data_pruning.py --distil el2n,random         students of a network that was trained on all data
    python experiments/data_pruning.py --score-width 30             scores by a narrower network than is trained
    python experiments/data_pruning.py --dry-run                    the plan, and nothing else

Networks with seeds of their own score the training examples; their mean ranks them. The hardest, the easiest and random
parts are then trained on, each as many steps as all data. A seed has the same first weights under all of them. Scores
and subsets see training examples only, and nothing is chosen by validation or test. A run that was killed goes on when
the same command is given again; more scores, orders, fractions, sizes or seeds extend it.
"""

import functools
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # `experiments` itself, when run as a script

from experiments import (
    _cli,
    _data_findings,
    _data_memorisation,
    _data_report,
    _example_scores,
    _plan,
    _pod,
    _report,
    _subset_training,
)
from experiments._data_pruning import Cell, Config, Study, studies
from experiments._data_report import Scored
from experiments._example_scores import Scorer
from experiments._students import Students
from experiments.configs import data_pruning_fashion, lenet_mnist5k

PRESETS = {"lenet_mnist5k": lenet_mnist5k, "data_pruning_fashion": data_pruning_fashion}


def run(config: Config) -> list[_report.Record]:
    """Scores and trains what is not there yet, and reports. Returns the records of all cells."""
    folder, cells = config.folder(), config.cells()
    networks = len(config.sizes) * config.networks()
    with _report.Progress(networks + len(cells), _lines(config.seeds)) as progress:
        made = _studies(config)
        with _cli.run_folder(config, progress):
            checkpoint = _cli.step_checkpoint(folder / "checkpoint", every=config.checkpoint_seconds)
            until = functools.partial(setattr, progress, "steps")
            options = {"checkpoint": checkpoint, "progress": progress.step, "until": until}
            scored = [score(config, study, finished=progress.finished, **options) for study in made]

            def trained() -> Iterator[dict[str, Any]]:
                for study, scores, _ in scored:
                    students = Students(config, study, _example_scores.averaged(scores), **options)
                    yield from students.train([cell for cell in cells if cell.size == study.size])

            records = _report.keep(trained(), folder / "metrics.jsonl", progress)
            checkpoint.clear()
    if _pod.is_main():
        _data_report.write(config, records, scored)
    return records


def _studies(config: Config) -> list[Study]:
    """Raises InputError for what does not fit the data, before anything is trained."""
    made = studies(config)
    for study in made:
        _data_memorisation.check(config, study)
    return made


def score(config: Config, study: Study, **options: Any) -> Scored:
    """The scores of a study's examples, and how far they can be trusted."""
    names = config.scored()
    if not names:
        return Scored(study, {}, {})
    scores = Scorer(config, study, model=_example_scores.score_model(config, study), name=config.scorer(), **options)
    found, own = scores.scores(names), None
    if config.transfers():
        own = Scorer(config, study, model=study.basis.model, name="same", **options).scores(names)
    return Scored(study, found, _data_findings.trust(study, found, own))


def plan(config: Config) -> str:
    """What the command would do."""
    folder, cells, made = config.folder(), config.cells(), _studies(config)
    finished = sum(cell.path(folder).exists() for cell in cells)
    lines = [_plan.folder(folder)]
    for study in made:
        lines += _planned(config, study, [cell for cell in cells if cell.size == study.size])
    return "\n".join(
        [
            *lines,
            f"finished     {finished} of {len(cells)} trainings",
            _plan.TIME,
        ]
    )


def _planned(config: Config, study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    """Of the examples of one study."""
    trained, scoring = (
        _plan.sizes(model.init)[0] for model in (study.basis, _example_scores.score_model(config, study))
    )
    students, memorising = Students(config, study, {}), config.memorising()
    steps = f"{_subset_training.steps(config, len(study.labels)):,} steps of {config.batch_size} examples"
    less = "fewer" if config.budget == "epochs" else "also"
    yield f"examples     {len(study.labels):,} to train on, {study.changed.sum():,} of them with wrong labels"
    parameters = f"{scoring:,} parameters{f', half of them of {trained:,}' if config.transfers() else ''}"
    yield f"scores       {config.networks() - memorising} networks of {parameters}, each {steps}"
    if memorising:
        epochs = config.memorisation_epochs or config.epochs
        yield f"memorisation {memorising} more, of {epochs} epochs, each on a random part of the examples"
    programs = f"{len([*students.programs(cells)])} programs, {students.trainer(taught=False).where}"
    yield f"trainings    {len(cells)} of networks of {trained:,} parameters, in {programs}"
    yield f"             each {steps}, {less} on a part of the data"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    return _cli.train_or_plan(Config(), argv, PRESETS, description=__doc__, plan=plan, run=run)


def _lines(seeds: int) -> _report.Rows:
    """A line for each subset; networks that score count as trainings."""

    def line(row: Sequence[_report.Record]) -> str:
        accuracies = "  ".join(f"{100 * r['test_accuracy']:5.1f}" for r in row if "test_accuracy" in r)
        return f"{_report.plain(row[0]['name']):31} {row[0]['examples']:>6,} examples  {accuracies}"

    return _report.Rows(lambda record: (record["size"], record["name"], record["fraction"]), seeds, line)


if __name__ == "__main__":
    _pod.host_devices()  # trainings side by side, one a core
    sys.exit(main())
