"""The plan of data pruning."""

from collections.abc import Iterator, Sequence

from experiments.runs import dry_run
from experiments.studies.data_pruning import memorisation, scores
from experiments.studies.data_pruning.config import Cell, Config, Study, studies
from experiments.studies.data_pruning.students import Students
from experiments.training import subsets


def prepare(config: Config) -> list[Study]:
    """Raise InputError, before anything is trained, for settings that do not fit the data."""
    prepared = studies(config)
    for study in prepared:
        memorisation.check(config, study)
    return prepared


def plan(config: Config, prepared: Sequence[Study]) -> Iterator[str]:
    """Return the lines of --dry-run."""
    folder, cells = config.folder(), config.cells()
    for study in prepared:
        yield from _planned(config, study, [cell for cell in cells if cell.size == study.size])
    finished = sum(cell.path(folder).exists() for cell in cells)
    yield f"finished     {finished} of {len(cells)} trainings"
    yield dry_run.TIME


def _planned(config: Config, study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    """Return the lines for the examples of one study."""
    trained, scoring = (dry_run.sizes(model.init)[0] for model in (study.basis, scores.score_model(config, study)))
    students, memorising = Students(config, study, {}), config.memorising()
    steps = f"{subsets.steps(config, len(study.labels)):,} steps of {config.batch_size} examples"
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
