"""The studies that search by levels: their progress, their reports, and their claims."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from experiments.claims import store
from experiments.claims.record import Claim
from experiments.reports import searches, tables
from experiments.reports.study import Study, Watch
from experiments.runs import environment
from experiments.runs.records import LevelRecord
from experiments.training import problems


def report(
    config: Any,
    records: Sequence[LevelRecord],
    branches: Sequence[str],
    *,
    title: str,
    claims: Sequence[Claim],
    settings: Any = None,
    layers: tables.Layers | None = None,
) -> None:
    """Write and print the report of these branches, and store the claims.

    Args:
      config: the configuration of the run, as `store.write` takes it.
      records: the records of all its trainings.
      branches: the columns of the table.
      title: stands above the table and the plot.
      claims: the claims of papers that the records test.
      settings: the configuration that the page lists, if it is another.
      layers: the densities of layers, if the search shows those of a ticket.
    """
    listed = dataclasses.asdict(config if settings is None else settings)
    looks = {"title": title, "config": listed, "command": config.command(), "layers": layers}
    searches.write(config.folder(), records, branches, **looks)
    series = store.curves(records, branches)
    store.write(config, claims, series=series, axes=store.AXES)


def study_of(
    configure: Callable[[Sequence[str] | None], Any],
    records: Callable[[Any, problems.Basis, Watch], Iterable[LevelRecord]],
    claims: Callable[[Any, Sequence[LevelRecord]], Sequence[Claim]],
    *,
    branches: Callable[[Any], Sequence[str]],
    size: Callable[[Any], tuple[int, int]],
    prunes: Callable[[Any, problems.Basis], str] | None = None,
) -> Study[Any, problems.Basis]:
    """Return the study that a configuration, a function that yields records, and claims make.

    Args:
      configure: arguments of the command line -> the configuration.
      records: (configuration, network and data, watch) -> a record for each level and branch of a replicate.
      claims: (configuration, records) -> the claims of papers that the records test.
      branches: configuration -> the trainings at each level: the columns of the table.
      size: configuration -> the number of replicates, and of levels.
      prunes: (configuration, network and data) -> a table of what the run prunes; None for the weights at the
        `densities` of the configuration.
    """

    def rows(config: Any) -> tuple[int, Any]:
        (replicates, levels), columns = size(config), branches(config)
        return replicates * levels * len(columns), searches.by_level(replicates, columns)

    def write(config: Any, basis: problems.Basis, trained: Sequence[LevelRecord]) -> None:
        title = f"{config.EXPERIMENT}: {config.setting}, run {config.hash()}"
        report(config, trained, branches(config), title=title, claims=claims(config, trained))

    def plan(config: Any, basis: problems.Basis) -> list[str]:
        return [
            f"trainings    {rows(config)[0]} at most",
            f"steps        {basis.steps} in --epochs {config.epochs}, of {config.batch_size} examples",
        ]

    return Study(
        configure,
        rows,
        prepare=lambda config, watch: problems.basis(config),
        records=records,
        report=write,
        plan=plan,
        prunes=prunes or (lambda config, basis: environment.prunable(basis.init, config.densities)),
    )
