"""Methods at several densities, summarised over seeds."""

import statistics
from collections.abc import Sequence
from typing import Any

from experiments.reports import tables
from experiments.runs.records import CellRecord


def summarise(records: Sequence[CellRecord]) -> dict[str, list[dict[str, Any]]]:
    """Return for each method, from dense to sparse: the density asked for, the part kept, and the accuracies."""
    groups: dict[str, dict[float, list[CellRecord]]] = {}
    for record in records:
        groups.setdefault(record.method, {}).setdefault(record.density, []).append(record)
    return {
        method: [
            {
                "density": density,
                "kept": statistics.fmean(record.kept for record in members),
                **tables.accuracies(members),
            }
            for density, members in sorted(by_density.items(), reverse=True)
        ]
        for method, by_density in groups.items()
    }
