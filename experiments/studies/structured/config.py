"""The settings of the study of structured tickets."""

import dataclasses
from typing import Literal, get_args

from experiments.runs.config import Training, require
from jaxticket import structure

Method = Literal["obspa", "group_magnitude", "random", "magnitude", "snip", "fisher", "udfc"]
Cost = Literal["macs", "params", "channels", "latency"]

COUNTED = {"macs": "multiply-adds", "params": "parameters", "channels": "channels", "latency": "estimated time"}


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Remove channels from a trained network, and fine-tune what is left."""

    EXPERIMENT = "structured"
    NOT_HASHED = Training.NOT_HASHED | {"methods", "kept", "seeds"}

    methods: tuple[Method, ...] = ("obspa", "group_magnitude", "random")
    """How channels are chosen. The ticket of the first method is exported."""
    cost: Cost = "macs"
    """What the budget counts: multiply-adds, parameters, channels, or the estimated time of one example here."""
    kept: tuple[float, ...] = (0.5, 0.1)
    """The fractions of the cost to keep."""
    ranking: structure.Ranking = "local"
    """Which channels compete: those of a group, all of them (global), or those of groups of one structure."""
    multiple: int = 1
    """The number of channels that a group keeps is rounded up to a multiple of it."""
    seeds: int = 4
    """Repetitions with other random numbers; the split of the data stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ", ".join(get_args(Method))
        require(
            0 < len(self.methods) == len(set(self.methods)), self, "methods", f"different ones, one or more of {known}"
        )
        require(0 < len(self.kept) == len(set(self.kept)), self, "kept", "different values, one or more")
        require(all(0 < part < 1 for part in self.kept), self, "kept", "between 0 and 1")
        require(self.multiple >= 1, self, "multiple", "at least 1")
        require(self.seeds >= 1, self, "seeds", "at least 1")

    def branches(self) -> tuple[str, ...]:
        """Return the trainings at each level."""
        return ("dense", *self.methods)
