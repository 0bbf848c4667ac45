"""The configuration of the study: the search for tickets, and how they are made coarse."""

import dataclasses
from typing import ClassVar, Literal

from experiments.runs.config import Rewinding, require

# Trained at each round, from the same rewound weights; the channels of `random` are as many as those of `refill`.
ARMS = ("unstructured", "refill", "refill_plus", "regroup", "random")


@dataclasses.dataclass(frozen=True)
class Config(Rewinding):
    """Search for tickets by iterative pruning, make them coarse, and train them again."""

    EXPERIMENT: ClassVar[str] = "structure_lth"
    NOT_HASHED = Rewinding.NOT_HASHED | {"seeds", "timings"}

    model: Literal["lenet_300_100", "conv_4"] = "lenet_300_100"
    """The network, from jaxticket.models."""
    data: Literal["mnist5k", "fashion_mnist", "cifar10"] = "fashion_mnist"
    """The data set, from jaxticket.data; mnist5k needs no files."""
    validation: int = 5000
    """Validation examples, taken from the training examples."""
    epochs: int = 8
    """Epochs of a training, from its start."""
    batch_size: int = 128
    """Examples in a step."""
    decay: Literal["constant", "cosine", "steps"] = "cosine"
    """The learning rate after the warm-up: constant, a cosine to 0, or steps at the milestones."""
    rewind_fraction: float = 0.1
    """The part of a training to whose end weights are rewound, rounded up to a step."""
    rounds: tuple[int, ...] = (4, 8)
    """The rounds of pruning after which the ticket is made coarse."""
    rate: float = 0.2
    """The fraction of the surviving weights that each round prunes."""
    fill: float = 0.2
    """The part of the missing channels that refill+ fills."""
    parts: int = 8
    """The parts into which regroup divides the channels of a layer."""
    ratio: float = 1.5
    """How much wider a block of regroup must be than what it leaves out."""
    least_channels: int = 17
    """The channels of the smallest block of regroup."""
    seeds: int = 3
    """Repetitions with other random numbers; the split of the data stays."""
    timed: int = 64
    """The number of examples in a batch that is timed."""
    timings: int = 15
    """The number of times that a network is timed, in turn with the dense one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < len(self.rounds) == len(set(self.rounds)), self, "rounds", "different values, one or more")
        for name in ("parts", "least_channels", "seeds", "timed", "timings"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        require(min(self.rounds) >= 1, self, "rounds", "at least 1")
        require(0 < self.rate < 1, self, "rate", "between 0 and 1")
        require(0 < self.fill <= 1, self, "fill", "above 0 and at most 1")
        require(self.ratio > 0, self, "ratio", "above 0")

    def sparsities(self) -> dict[float, int]:
        """Return the sparsity that the search reaches -> the round."""
        return {1 - (1 - self.rate) ** at: at for at in sorted(self.rounds)}

    def cells(self) -> list[tuple[str, float, int]]:
        """Return (arm, sparsity that the search reached, seed) of every training."""
        arms = [(arm, sparsity) for sparsity in self.sparsities() for arm in ARMS]
        return [(*cell, seed) for seed in range(self.seeds) for cell in (("dense", 0.0), *arms)]
