"""The configuration of a comparison: methods, densities and seeds."""

import dataclasses

from experiments.runs.config import OwnProblem, require
from experiments.training.kinds import DENSE, Cell
from jaxticket import registry
from jaxticket.training.nonfinite import OnNan


@dataclasses.dataclass(frozen=True)
class Config(OwnProblem):
    """Train methods at densities with seeds, and the dense network with the same seeds."""

    EXPERIMENT = "compare"
    NOT_HASHED = OwnProblem.NOT_HASHED | {"methods", "densities", "seeds"}

    on_nan: OnNan = "record"
    """At a loss that is not finite: record the result, which suits a comparison, stop, or skip such steps."""
    methods: tuple[str, ...] = ("random_erk", "gradual", "rigl")
    """Names of methods in jaxticket.registry, with spaces or commas between them."""
    densities: tuple[float, ...] = (0.1, 0.05, 0.02, 0.01)
    """The fractions of the weights to keep."""
    seeds: int = 3
    """Repetitions with other random numbers; the split of the data stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for method in self.methods:
            registry.get(method)
        for name in ("methods", "densities"):
            values = getattr(self, name)
            require(0 < len(values) == len(set(values)), self, name, "different values, at least one")
        require(all(0 < density < 1 for density in self.densities), self, "densities", "between 0 and 1")
        require(self.seeds >= 1, self, "seeds", "at least 1")

    def cells(self) -> list[Cell]:
        """Return all trainings: the dense network first, then method by method from dense to sparse."""
        pairs = [(DENSE, 1.0), *((m, d) for m in self.methods for d in sorted(self.densities, reverse=True))]
        return [Cell(method, density, seed) for method, density in pairs for seed in range(self.seeds)]
