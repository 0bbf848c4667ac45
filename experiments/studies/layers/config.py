"""The configuration of the study: a residual network, and what is removed before it is trained."""

import dataclasses
from typing import Literal, get_args

from experiments.runs.config import Training, require

Method = Literal[
    "layers_grasp", "layers_snip", "layers_random", "channels_grasp", "channels_snip", "channels_random"
]  # what goes, by which score


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Remove whole blocks, or channels at equal multiply-adds, from an untrained residual network, and train it."""

    EXPERIMENT = "layers"
    NOT_HASHED = Training.NOT_HASHED | {"rounds"}

    model: Literal["residual_mlp", "resnet_20"] = "residual_mlp"  # type: ignore[assignment]
    """The network: 16 blocks of 64 units on --data mnist5k or fashion_mnist, or ResNet-20 on --data cifar10."""
    methods: tuple[Method, ...] = get_args(Method)
    """What goes (whole layers, or channels of all layers), and the score that chooses it at initialisation."""
    removed: tuple[int, ...] = (4, 8, 12)
    """The numbers of blocks to remove; channels keep the same multiply-adds."""
    minimum: int = 2
    """The blocks that each stage keeps."""
    examples: int = 500
    """The training examples that scores see."""
    decay: Literal["constant", "cosine", "steps"] = "cosine"
    """The learning rate after the warm-up: constant, a cosine to 0, or steps at the milestones."""
    seeds: int = 5
    """Repetitions with other random numbers; the split of the data stays."""
    rounds: int = 5
    """The number of times that an epoch of training is timed, in turn with the dense network's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < len(self.methods) == len(set(self.methods)), self, "methods", "different ones, one or more")
        require(0 < len(self.removed) == len(set(self.removed)), self, "removed", "different values, one or more")
        require(min(self.removed) >= 1, self, "removed", "at least 1")
        for name in ("minimum", "examples", "seeds", "rounds"):
            require(getattr(self, name) >= 1, self, name, "at least 1")

    def cells(self) -> list[tuple[str, float, int]]:
        """Return (method, blocks removed, seed) of every point; "dense" first."""
        points = [("dense", 0.0), *((method, float(n)) for n in sorted(self.removed) for method in self.methods)]
        return [(method, count, seed) for method, count in points for seed in range(self.seeds)]
