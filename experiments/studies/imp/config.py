"""The configuration of the search for winning tickets, and that of a finished search."""

import dataclasses
import json
import pathlib
from typing import Any, Literal

from experiments.runs.config import Rewinding, Training, require
from jaxticket.errors import InputError


@dataclasses.dataclass(frozen=True)
class Config(Rewinding):
    """Search for winning tickets by iterative magnitude pruning, with two controls at every level."""

    EXPERIMENT = "imp"
    NOT_HASHED = Training.NOT_HASHED | {"levels", "replicates", "tensorboard"}

    levels: int = 18
    """The number of levels, each pruned from the one before; the first is dense."""
    replicates: int = 4
    """Repetitions with other random numbers; the split of the data stays."""
    rate: float = 0.2
    """The fraction of the surviving weights that each level prunes."""
    scope: Literal["global", "layer"] = "global"
    """Whether all weights compete, or those of each layer (the output layer is then pruned at half the rate)."""
    minimum: int = 0
    """The number of weights that every layer keeps at least, with --scope global."""
    rewind: Literal["weights", "everything", "learning-rate", "fine-tune"] = "weights"
    """The start of the next level: rewound weights, those and the optimizer's state, or trained weights."""
    tensorboard: bool = False
    """Also write the reported numbers as event files, into the folder tensorboard of the run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("levels", "replicates"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        require(self.minimum >= 0, self, "minimum", "at least 0")
        require(0 < self.rate < 1, self, "rate", "between 0 and 1")
        require(self.scope == "global" or self.minimum == 0, self, "minimum", "0 with --scope layer")


def of_run(folder: pathlib.Path, **changes: Any) -> Config:
    """Return the configuration of the search in a run folder. Raises InputError if there is none."""
    try:
        values = json.loads((folder / "config.json").read_text())
        if not isinstance(values, dict) or values.pop("experiment") != "imp":
            raise ValueError("another experiment")
        values["milestones"] = tuple(values["milestones"])
        return Config(**values, **changes)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{folder} does not hold a search of experiments/imp.py ({error}); name the folder of a run"
        ) from error
