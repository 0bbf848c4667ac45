"""What a search for winning tickets on the digits depends on. Every field is a flag of `python experiments/imp.py`.

Command    python experiments/imp.py (or `make demo`)
Hardware   2 CPU cores, 1 GiB of memory, 160 MiB of disk
Time       5 minutes of CPU time, 3 minutes by the clock when nothing else runs
Expected   test accuracy in %, ± 95 % interval over 4 replicates (seed 0); dense 95.0 ± 0.7
             weights kept      ticket         random reinit   random ticket
             10.7 %            94.2 ± 0.6     93.1 ± 0.8      92.4 ± 1.1
              2.25 %           93.9 ± 0.7     91.6 ± 0.8      89.9 ± 0.5
           Other processors round otherwise: single runs differ, means stay within their intervals.

Variants   --scope layer                         the paper's rates: 20 % a level, the output layer 10 %
           --rewind-step 100                     late rewinding
           --rewind everything --rewind-step 100   and the optimizer's state with it
           --rewind learning-rate --decay cosine   Renda et al. (2020); compare with --rewind fine-tune
"""

import dataclasses
import hashlib
import json
import math
import pathlib
from typing import Any, Literal

from jaxticket.errors import InputError

# What does not change any number of the run: asking for more of these extends it.
_NOT_HASHED = ("levels", "replicates", "out", "checkpoint_seconds", "dry_run")


@dataclasses.dataclass(frozen=True)
class Config:
    """Search for winning tickets: LeNet-300-100 on 5,000 MNIST digits."""

    levels: int = 18
    """Levels, each pruned from the one before; the first is dense."""
    replicates: int = 4
    """Repetitions of everything with other random numbers (the split of the data stays)."""
    epochs: int = 16
    """Epochs of one training, from its start; late rewinding shortens the later ones."""
    batch_size: int = 60
    """Examples a step."""
    learning_rate: float = 1.2e-3
    """Of Adam, at its peak."""
    decay: Literal["constant", "cosine"] = "constant"
    """How the learning rate goes on after the warm-up."""
    warmup: int = 0
    """Steps in which the learning rate grows from 0."""
    rate: float = 0.2
    """Fraction of the surviving weights that each level prunes."""
    scope: Literal["global", "layer"] = "global"
    """Do all weights compete, or those of each layer (the output layer is then pruned at half the rate)?"""
    minimum: int = 0
    """Weights that every layer keeps whatever the others do (global scope)."""
    rewind: Literal["weights", "everything", "learning-rate", "fine-tune"] = "weights"
    """What the next level starts from: rewound weights, those and the optimizer's state, or trained weights."""
    rewind_step: int = 0
    """The step to which weights or learning rate are rewound; the dense network is first trained up to it."""
    validation: int = 500
    """Validation examples, of 5,000."""
    test: int = 1000
    """Test examples, of 5,000; nothing is chosen by them."""
    seed: int = 0
    """Of everything random."""
    out: pathlib.Path = pathlib.Path("runs")
    """The folder in which the run gets its own, named by a hash of what defines it."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints inside a training."""
    dry_run: bool = False
    """Print the plan and stop."""

    def __post_init__(self) -> None:
        for name in ("levels", "replicates", "epochs", "batch_size"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        for name in ("warmup", "minimum", "rewind_step", "checkpoint_seconds"):
            require(getattr(self, name) >= 0, self, name, "at least 0")
        require(0 < self.learning_rate < math.inf, self, "learning_rate", "above 0")
        require(0 <= self.seed < 2**32, self, "seed", "at least 0 and below 2^32")
        require(0 < self.rate < 1, self, "rate", "between 0 and 1")
        for name in ("validation", "test"):
            require(getattr(self, name) >= 1, self, name, "at least 1, to have something to report")
        require(self.scope == "global" or self.minimum == 0, self, "minimum", "0 with --scope layer")

    def identity(self) -> dict[str, Any]:
        """The values that define the numbers of the run."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in _NOT_HASHED}

    def hash(self) -> str:
        """Of the values that are not the defaults, so that an option added later renames no run."""
        defaults = Config().identity()
        changed = {name: value for name, value in self.identity().items() if value != defaults[name]}
        return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:10]

    def folder(self) -> pathlib.Path:
        return self.out / f"imp-{self.hash()}"


def require(condition: bool, config: Config, name: str, what: str) -> None:
    """Raises InputError, naming the flag, unless the condition holds."""
    if not condition:
        raise InputError(f"--{name.replace('_', '-')} is {getattr(config, name)}, but must be {what}")
