"""The points of a run: the network that a method finds, its size, and the accuracy after its training."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from experiments.runs.records import SweepRecord
from experiments.studies.widths.lab import Lab
from experiments.studies.widths.methods import METHODS


def points(lab: Lab, show: Callable[[str], None]) -> Iterator[SweepRecord]:
    """Yield a record for each cell; finished ones are yielded as they are. `show` gets the current work."""
    yield from lab.finished
    for method, gone, seed in lab.missing:
        show(f"{method}, {1 - gone:.2g} of the multiply-adds, seed {seed}")
        measured = _whole(lab, seed) if method == "dense" else _smaller(lab, method, 1 - gone, seed)
        yield SweepRecord(measured, method, gone, seed)


def _whole(lab: Lab, seed: int) -> dict[str, Any]:
    return {**lab.dense(seed)[1], "macs": 1.0, "params": 1.0}


def _smaller(lab: Lab, method: str, fraction: float, seed: int) -> dict[str, Any]:
    """Return the accuracy of what a method finds, its size and the time of the search over the whole network's."""
    teacher, whole = lab.dense(seed)
    search, train = jax.random.split(jax.random.fold_in(lab.key(seed), 1))
    began = time.perf_counter()
    smaller = METHODS[method](lab, fraction, search)
    seconds = time.perf_counter() - began
    own = lab.traced(smaller.model)
    sizes = {"macs": own.macs() / lab.groups.macs(), "params": own.params() / lab.groups.params()}
    accuracies = lab.train(smaller.model, train, teacher).accuracies
    return {**accuracies, **sizes, "time_search": seconds / whole["seconds"], **smaller.numbers}
