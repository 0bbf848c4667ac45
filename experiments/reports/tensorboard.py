"""Event files for TensorBoard: a curve for each training that has one."""

import pathlib
import shutil
from collections.abc import Iterable, Mapping

from experiments.runs.records import CellRecord, LevelRecord, Line

Curves = Mapping[str, Iterable[tuple[int, Line]]]  # by name: (step, the numbers there)
_SHOWN = ("density", "loss", "test_accuracy", "validation_accuracy", "skipped_steps")


def write(folder: pathlib.Path, curves: Curves) -> None:
    """Write density, loss and accuracies of records as scalars over steps; the folder is replaced."""
    from tensorboardX import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)  # of a shorter run
    for name, points in curves.items():
        with SummaryWriter(str(folder / name)) as writer:
            for step, record in points:
                for what in _SHOWN:
                    if record.get(what) is not None:
                        writer.add_scalar(what, record[what], step)


def over_levels(records: Iterable[LevelRecord]) -> Curves:
    """Return a curve for each replicate and branch of a search."""
    curves: dict[str, list[tuple[int, Line]]] = {}
    for record in records:
        name = f"replicate_{record.replicate}_{record.branch}"
        curves.setdefault(name, []).append((record.level, record.line()))
    return curves


def over_steps(records: Iterable[CellRecord]) -> Curves:
    """Return a curve for each seed, of the history of its training."""
    return {f"seed_{r.seed}": [(seen["step"], seen) for seen in r.metrics["history"]] for r in records}
