"""The configuration of the study: an MLP whose hidden layers are Monarch matrices."""

import dataclasses
from typing import Literal, get_args

from experiments.runs.config import Training, require

Method = Literal["monarch", "dense_to_sparse", "unprojected", "reverse", "narrow"]


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Train hidden layers as Monarch matrices, from scratch, from a dense network, or for most of a training."""

    EXPERIMENT = "monarch"
    NOT_HASHED = Training.NOT_HASHED | {"rounds"}

    model: Literal["lenet_300_100"] = "lenet_300_100"  # type: ignore[assignment]
    """The network, whose hidden layers become Monarch matrices."""
    width: int = 340
    """The units of the second hidden layer; the first has three times as many."""
    epochs: int = 48
    """Epochs of a training, from its start."""
    decay: Literal["constant", "cosine", "steps"] = "cosine"
    """The learning rate after the warm-up: constant, a cosine to 0, or steps at the milestones."""
    methods: tuple[Method, ...] = get_args(Method)
    """monarch: trained as they are. dense_to_sparse: projected from a dense network, and fine-tuned.
    unprojected: drawn, and trained for as short. reverse: made dense for the end of the training.
    narrow: dense layers with as few parameters."""
    blocks: tuple[int, ...] = (4, 16)
    """The numbers of blocks of both factors."""
    tuned: float = 0.25
    """The last part of a training, of which dense_to_sparse has the learning rate and the length."""
    sparse: float = 0.9
    """The part of a training in which reverse has Monarch matrices."""
    seeds: int = 5
    """Repetitions with other random numbers; the split of the data stays."""
    rounds: int = 11
    """The number of times that a network is timed, in turn with the dense one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < len(self.methods) == len(set(self.methods)), self, "methods", "different ones, one or more")
        require(0 < len(self.blocks) == len(set(self.blocks)), self, "blocks", "different values, one or more")
        require(min(self.blocks) >= 1, self, "blocks", "at least 1")
        for name in ("tuned", "sparse"):
            require(0 < getattr(self, name) < 1, self, name, "between 0 and 1")
        for name in ("width", "seeds", "rounds"):
            require(getattr(self, name) >= 1, self, name, "at least 1")

    def cells(self) -> list[tuple[str, float, int]]:
        """Return (method, blocks, seed) of every point; "dense" first, with 0."""
        points = [("dense", 0.0), *((method, float(n)) for n in sorted(self.blocks) for method in self.methods)]
        return [(method, blocks, seed) for method, blocks in points for seed in range(self.seeds)]
