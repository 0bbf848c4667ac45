"""The configuration of the pruning of a language model."""

import dataclasses
import pathlib
import re
from typing import Any, Literal, NamedTuple

from experiments.runs.config import Run, require

Method = Literal["magnitude", "wanda", "sparsegpt"]
DENSE = "dense"


class Pattern(NamedTuple):
    """The weights that stay: a part of them, in groups of so many inputs or not."""

    density: float
    group: int | None

    @property
    def name(self) -> str:
        """The end of a curve's name: nothing, or " 2:4"."""
        return "" if self.group is None else f" {round(self.density * self.group)}:{self.group}"


@dataclasses.dataclass(frozen=True)
class Config(Run):
    """Prune a language model that transformers saved, without training, and measure its perplexity."""

    EXPERIMENT = "prune_lm"

    model: pathlib.Path = pathlib.Path("runs/train_lm-44136fa355/model")
    """The folder of the model: config.json, *.safetensors, tokenizer.json. It may also come first, without a name."""
    method: tuple[Method, ...] = ("wanda",)
    """The methods: magnitude, wanda, sparsegpt."""
    density: tuple[float, ...] = ()
    """The parts of each layer's weights to keep; 0.5 if neither these nor --nm are given."""
    nm: tuple[str, ...] = ()
    """Patterns such as 2:4, which keep 2 of 4 neighbouring inputs of each output."""
    calibration: pathlib.Path | None = None
    """A text file with a document in each line, from which inputs are taken; by default train.txt beside the model."""
    evaluation: pathlib.Path | None = None
    """A text file of which the perplexity is measured; by default held_out.txt beside the model."""
    sequences: int = 128
    """The calibration sequences."""
    context: int = 0
    """The tokens of a sequence; 0: as many as the model takes, at most 2048."""
    evaluated: int = 65_536
    """The tokens of which the perplexity is measured, from the first document on."""
    batch_size: int = 8
    """Sequences that are run together."""
    seeds: int = 1
    """Repetitions with other calibration sequences; the network of the first is written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < len(self.method) == len(set(self.method)), self, "method", "different ones, one or more")
        require(all(0 < density < 1 for density in self.density), self, "density", "between 0 and 1")
        require(len(self.density) == len(set(self.density)), self, "density", "different values")
        require(all(map(_is_pattern, self.nm)), self, "nm", "such as 2:4, fewer than all")
        require(len(self.nm) == len(set(self.nm)), self, "nm", "different values")
        for name in ("sequences", "evaluated", "batch_size", "seeds"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        require(self.context >= 0, self, "context", "at least 0")

    @property
    def setting(self) -> str:
        """The network, by its folder, in words."""
        return f"{self.model.parent.name}/{self.model.name}".removeprefix("/")

    @property
    def patterns(self) -> list[Pattern]:
        """The weights that stay, from the most on."""
        densities = self.density or (() if self.nm else (0.5,))
        pairs = [tuple(map(int, pattern.split(":"))) for pattern in self.nm]
        named = [Pattern(density, None) for density in densities] + [Pattern(n / m, m) for n, m in pairs]
        return sorted(named, key=lambda pattern: (-pattern.density, pattern.group or 0))

    def cells(self) -> list[tuple[str, float, int]]:
        """Return (curve, sparsity, seed) of each point; the dense network comes first, magnitude reads no sequences."""
        cells = [(DENSE, 0.0, 0)]
        for pattern in self.patterns:
            for method in self.method:
                seeds = 1 if method == "magnitude" else self.seeds
                cells += [(method + pattern.name, 1 - pattern.density, seed) for seed in range(seeds)]
        return cells

    def texts(self) -> tuple[pathlib.Path, pathlib.Path]:
        """Return the files of calibration and evaluation."""
        beside = self.model.parent
        return self.calibration or beside / "train.txt", self.evaluation or beside / "held_out.txt"

    def identity(self) -> dict[str, Any]:
        """The values that define the numbers of the run."""
        return {name: str(v) if isinstance(v, pathlib.Path) else v for name, v in super().identity().items()}

    def pattern(self, curve: str, sparsity: float) -> tuple[Method, Pattern]:
        """Return the method and the pattern of a point."""
        pairs = ((method, pattern) for method in self.method for pattern in self.patterns)
        (found,) = (pair for pair in pairs if (pair[0] + pair[1].name, 1 - pair[1].density) == (curve, sparsity))
        return found


def _is_pattern(text: str) -> bool:
    match = re.fullmatch(r"(\d{1,3}):(\d{1,3})", text)
    return match is not None and 0 < int(match[1]) < int(match[2])
