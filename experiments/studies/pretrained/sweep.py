"""The points of a run: what goes by each choice, the likeness that is left, and the time that is saved."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from experiments.reports.sweeps import Sweep
from experiments.runs.records import SweepRecord
from experiments.studies.pretrained.choices import choose
from experiments.studies.pretrained.config import TIMED, Config
from experiments.studies.pretrained.networks import Network, load
from experiments.training.timing import time_ratio


class Lab(Sweep):
    """The records that a run has, and its network, which is loaded when it is first read."""

    def __init__(self, config: Config, **looks: Any):
        super().__init__(config, ("alike", "macs", "params"), **looks)

    @functools.cached_property
    def network(self) -> Network:
        return load(self.config)

    @functools.cached_property
    def dense(self) -> np.ndarray:
        """The outputs of the dense network for the tested examples."""
        return self.network.outputs(self.network.variables, self.network.tested)

    def groups(self) -> str:
        """Return the table of the groups; nothing, where no point is missing."""
        return str(self.network.groups) if self.missing else ""


def points(lab: Lab, show: Callable[[str], None]) -> Iterator[SweepRecord]:
    """Yield a record for each cell; finished ones are yielded as they are. `show` gets the current work."""
    yield from lab.finished
    for choice, part, seed in lab.missing:
        show(f"{choice}, {part:g}, seed {seed}")
        yield SweepRecord(_measured(lab, choice, part, seed), choice, part, seed)


def _measured(lab: Lab, choice: str, part: float, seed: int) -> dict[str, Any]:
    network = lab.network
    smaller = choose(network, choice, part, seed)
    alike = network.likeness(lab.dense, network.outputs(smaller.variables, network.tested))
    measured: dict[str, Any] = {"alike": alike, "macs": smaller.macs, "params": smaller.params}
    if choice not in TIMED or seed:
        return measured
    programs = [(network.apply, variables) for variables in (network.variables, smaller.variables)]
    for size in network.timed:
        ratio, seconds = time_ratio(*programs, network.inputs(size), rounds=lab.config.rounds)
        measured |= {f"time_{size}": ratio, f"dense_seconds_{size}": seconds}
    return measured
