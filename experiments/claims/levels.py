"""The report of a search by levels: the table, the plot and the page, with the claims that it tests."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments.claims import store
from experiments.claims.record import Claim
from experiments.reports import searches
from experiments.runs.records import LevelRecord


def report(
    config: Any,
    records: Sequence[LevelRecord],
    branches: Sequence[str],
    *,
    title: str,
    claims: Sequence[Claim],
    settings: Any = None,
) -> None:
    """Write and print the report of these branches, and store the claims.

    Args:
      config: of the run, as `store.write` takes it. records: of all its trainings. branches: the columns of the table.
      title: of the table and the plot. claims: what the records say of papers.
      settings: the configuration that the page lists, if another one.
    """
    command = config.command()
    listed = dataclasses.asdict(config if settings is None else settings)
    searches.write(config.folder(), records, branches, title=title, config=listed, command=command)
    series = store.curves(records, branches)
    store.write(config, claims, command=command, series=series, axes=store.AXES)
