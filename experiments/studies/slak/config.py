"""The configuration of the study: a ConvNeXt, its kernels, and how its weights are trained."""

import dataclasses
from typing import Literal, get_args

from experiments.runs.config import Training, require

Method = Literal["slak", "fixed", "decomposed", "full", "small"]
DENSE = "full"  # the network over which sizes and times are measured


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Train very large kernels as sparse branches of a wider network, as dense ones, and 7 × 7 kernels."""

    EXPERIMENT = "slak"
    NOT_HASHED = Training.NOT_HASHED | {"rounds"}

    model: Literal["slak"] = "slak"  # type: ignore[assignment]
    """The network: stages of ConvNeXt blocks."""
    patch: int = 4
    """The side of the squares of pixels that become the first stage's positions."""
    methods: tuple[Method, ...] = get_args(Method)
    """slak: two rectangles and a small square, sparse, wider, regrown. fixed: the same without regrowth.
    decomposed: these branches, dense. full: a large and a small square, dense. small: squares of --small-kernel."""
    kernels: tuple[int, ...] = (13,)
    """The large side of the kernels of each stage."""
    short: int = 3
    """The short side of the rectangles, and the side of the small square."""
    small_kernel: int = 7
    """The side of the kernels of small, at most that of the stage's images."""
    dims: tuple[int, ...] = (24,)
    """The channels of each stage."""
    depths: tuple[int, ...] = (2,)
    """The blocks of each stage."""
    wider: float = 1.3
    """The factor of the channels of slak and fixed."""
    density: float = 0.6
    """The weights that slak and fixed keep."""
    every: int = 50
    """The steps between two refreshes of slak."""
    drop_fraction: float = 0.3
    """The part of the weights that the first refresh replaces."""
    layer_scale: float = 1.0
    """The first factor of each block's output; 1e-6 is published, for trainings of 300 epochs."""
    probed: int = 120
    """The training examples that SNIP sees."""
    epochs: int = 6
    """Epochs of a training, from its start."""
    batch_size: int = 60
    """Examples in a step."""
    learning_rate: float = 1e-2
    """The peak of the learning rate."""
    decay: Literal["constant", "cosine", "steps"] = "cosine"
    """The learning rate after the warm-up: constant, a cosine to 0, or steps at the milestones."""
    warmup: int = 50
    """Steps in which the learning rate rises from 0."""
    seeds: int = 3
    """Repetitions with other random numbers; the split of the data stays."""
    rounds: int = 11
    """The number of times that a network is timed, in turn with the one with full kernels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < len(self.methods) == len(set(self.methods)), self, "methods", "different ones, one or more")
        stages = len(self.dims)
        for name in ("kernels", "depths", "dims"):
            values = getattr(self, name)
            require(0 < len(values) == stages, self, name, f"one for each of the {stages} stages of --dims")
            require(min(values) >= 1, self, name, "at least 1")
        require(0 < self.density <= 1, self, "density", "above 0 and at most 1")
        require(0.005 <= self.drop_fraction <= 1, self, "drop_fraction", "between 0.005 and 1")
        require(self.wider >= 1, self, "wider", "at least 1")
        for name in ("patch", "short", "small_kernel", "every", "probed", "seeds", "rounds"):
            require(getattr(self, name) >= 1, self, name, "at least 1")

    def cells(self) -> list[tuple[str, float, int]]:
        """Return (method, sparsity, seed) of every point; the network with full kernels comes first."""
        others = [method for method in self.methods if method != DENSE]
        sparsity = lambda method: 1 - self.density if method in ("slak", "fixed") else 0.0
        return [(method, sparsity(method), seed) for method in (DENSE, *others) for seed in range(self.seeds)]
