"""The configuration of the study: a residual network, and how the widths of a smaller one are found."""

import dataclasses
from typing import Literal

from experiments.runs.config import Training, require

Method = Literal["uniform", "random", "precrop", "precrop_synflow", "tas", "supertickets"]  # names in methods.METHODS
BUDGET = 0.02  # the part of the budget by which a network may miss it


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Find the widths of a network within a budget of multiply-adds, and train it with the whole one as its teacher."""

    EXPERIMENT = "widths"
    NOT_HASHED = Training.NOT_HASHED | {"seeds"}

    model: Literal["slim_resnet", "supernet"] = "slim_resnet"  # type: ignore[assignment]
    """The network: three stages of residual blocks, or blocks of parallel branches. It sees 28 × 28 pixels halved."""
    width: int = 8
    """The width of its first stage; others have twice and four times as many channels, a supernet twice everywhere."""
    blocks: int = 2
    """The number of blocks, of each stage where there are stages."""
    methods: tuple[Method, ...] = ("uniform", "random", "precrop", "tas", "supertickets")
    """How the widths are found: the same part of every layer, at random, or by a method."""
    fractions: tuple[float, ...] = (0.5,)
    """The parts of the multiply-adds that are kept."""
    epochs: int = 15
    """Epochs of a training, from its start."""
    batch_size: int = 125
    """Examples in a step."""
    learning_rate: float = 3e-3
    """The peak of the learning rate."""
    decay: Literal["constant", "cosine", "steps"] = "cosine"
    """The learning rate after the warm-up: constant, a cosine to 0, or steps at the milestones."""
    search_epochs: int = 20
    """Epochs of a search, of half of the training examples each for the weights and for the logits."""
    logit_rate: float = 0.1
    """The learning rate of the logits of a search."""
    teacher_weight: float = 0.9
    """The weight of the whole network's logits against the labels, in the training of smaller ones."""
    temperature: float = 4.0
    """The temperature of this distillation."""
    seeds: int = 3
    """Repetitions with other random numbers; the split of the data stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("methods", "fractions"):
            values = getattr(self, name)
            require(0 < len(values) == len(set(values)), self, name, "different ones, one or more")
        fits = self.model == "slim_resnet" or "tas" not in self.methods
        require(fits, self, "methods", f"without tas, whose supernet is another, for --model {self.model}")
        require(min(self.fractions) > 0 and max(self.fractions) < 1, self, "fractions", "between 0 and 1")
        require(self.width >= 4, self, "width", "at least 4")
        require(self.blocks >= 2, self, "blocks", "at least 2")
        require(0 <= self.teacher_weight <= 1, self, "teacher_weight", "at least 0 and at most 1")
        require(self.temperature > 0, self, "temperature", "above 0")
        for name in ("search_epochs", "seeds"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        require(self.logit_rate > 0, self, "logit_rate", "above 0")
        require(self.augment == "none", self, "augment", "none: the teacher sees images as they are")

    def cells(self) -> list[tuple[str, float, int]]:
        """Return (method, part of the multiply-adds that goes, seed) of every point; a seed's "dense" first."""
        points = [("dense", 0.0), *((method, 1 - f) for f in sorted(self.fractions) for method in self.methods)]
        return [(*point, seed) for seed in range(self.seeds) for point in points]
