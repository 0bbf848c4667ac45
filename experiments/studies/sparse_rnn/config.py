"""The configuration of the study: recurrent networks on strings of a grammar, and what of them is pruned."""

import dataclasses
from typing import Literal, get_args

from experiments.runs.config import Training, require

Recurrence = Literal["tanh", "relu", "gru", "lstm"]
Part = Literal["both", "ih", "hh"]
Family = Literal["watts_strogatz", "barabasi_albert"]
DENSE = "dense"


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Prune trained recurrent networks by part and retrain them; train others that are connected like random graphs."""

    EXPERIMENT = "sparse_rnn"
    NOT_HASHED = Training.NOT_HASHED | {"graphs"}

    model: Literal["recurrent"] = "recurrent"  # type: ignore[assignment]
    """The network: an embedding, recurrent layers, and a linear layer."""
    data: Literal["reber"] = "reber"  # type: ignore[assignment]
    """The data: strings that are valid in the Reber grammar, and others."""
    strings: int = 4000
    """The training strings."""
    longest: int = 30
    """The letters of the longest string."""
    widths: tuple[int, ...] = (32, 32)
    """The units of each recurrent layer."""
    recurrences: tuple[Recurrence, ...] = get_args(Recurrence)
    """The kinds of recurrent layers that are pruned."""
    parts: tuple[Part, ...] = get_args(Part)
    """The weights that are pruned: from input to hidden units (ih), from hidden to hidden units (hh), or both."""
    sparsities: tuple[float, ...] = (0.6, 0.8, 0.9, 1.0)
    """The parts of these weights that go, the smallest of all layers together."""
    epochs: int = 20
    """Epochs of the dense training."""
    retrained: int = 3
    """Epochs after pruning, with a fresh optimizer."""
    batch_size: int = 32
    """Examples in a step."""
    learning_rate: float = 1e-3
    """The peak of the learning rate."""
    clip: float = 5.0
    """The largest norm of a gradient, which is scaled down to it."""
    seeds: int = 3
    """Repetitions with other random numbers; the strings stay."""
    connected: tuple[Recurrence, ...] = ("tanh",)
    """The kinds of recurrent layers that are connected like random graphs."""
    graph_epochs: int = 10
    """Epochs of the training of a random graph."""
    graphs: int = 15
    """The random graphs of each family; 0 for none."""
    fewest: int = 10
    """The nodes of the smallest random graph."""
    most: int = 24
    """The nodes of the largest random graph."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("recurrences", "parts", "sparsities"):
            values = getattr(self, name)
            require(0 < len(values) == len(set(values)), self, name, "different ones, one or more")
        require(len(self.connected) == len(set(self.connected)), self, "connected", "different ones")
        require(all(0 < s <= 1 for s in self.sparsities), self, "sparsities", "above 0 and at most 1")
        require(len(self.widths) > 0 and min(self.widths) >= 1, self, "widths", "at least 1, one or more")
        for name in ("strings", "retrained", "seeds", "graph_epochs"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        require(self.longest >= 15, self, "longest", "at least 15")
        require(self.clip > 0, self, "clip", "above 0")
        require(self.graphs >= 0, self, "graphs", "at least 0")
        require(self.fewest >= 10, self, "fewest", "at least 10")
        require(self.most >= self.fewest, self, "most", f"at least the {self.fewest} of --fewest")
        require(self.augment == "none", self, "augment", "none for strings")
        require(self.limit == 0, self, "limit", "0; --strings is the number of training strings")

    def cells(self) -> list[tuple[str, float, int]]:
        """Return (recurrence and part, sparsity, seed) of every point, and those of random graphs, by number."""
        pruned = [
            (f"{kind} {part}", sparsity, seed)
            for kind in self.recurrences
            for part, sparsity in [(DENSE, 0.0), *((p, s) for s in sorted(self.sparsities) for p in self.parts)]
            for seed in range(self.seeds)
        ]
        families = [f"{kind} {family}" for kind in self.connected for family in get_args(Family)]
        return [*pruned, *((curve, 0.0, number) for number in range(self.graphs) for curve in families)]
