"""The configuration of data pruning: training examples, some with wrong labels, and trainings on parts of them."""

import dataclasses
import pathlib
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runs.config import Training, require
from experiments.training import problems
from jaxticket import data
from jaxticket.training.nonfinite import OnNan

RANDOM, ALL = "random", "all"  # subsets that no score chooses
POINT_IN_TIME = ("el2n", "grand", "margin", "logit_margin", "entropy", "loss")
STREAMED = (
    *("forgetting", "first_learned", "mean_el2n", "mean_margin", "mean_logit_margin", "mean_entropy", "mean_loss"),
)
SCORES = (*POINT_IN_TIME, *STREAMED, "prototypes", "memorisation")


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Train on the hardest, the easiest and random parts of the training examples, by several scores."""

    EXPERIMENT = "data_pruning"
    NOT_HASHED = Training.NOT_HASHED | {"scores", "orders", "fractions", "sizes", "distil", "seeds"}

    on_nan: OnNan = "record"
    """At a loss that is not finite: record the result, which suits a comparison, or stop."""
    scores: tuple[Literal[*SCORES, RANDOM], ...] = ("el2n", "forgetting", RANDOM)
    """Scores of how hard an example is. The first six are read once, after --score-epochs.
    first_learned, forgetting and the means watch a whole training; prototypes need no labels.
    mean_logit_margin is minus the area under the margin (AUM).
    memorisation needs many networks, trained with and without an example; random is the control."""
    orders: tuple[Literal["hard", "easy", "middle"], ...] = ()
    """The examples of a score to keep; middle is the hardest without the very hardest (--skip).
    By default hard and easy, with --label-noise also middle."""
    fractions: tuple[float, ...] = (0.1, 0.3, 0.5, 0.8)
    """The parts of the training examples to keep."""
    sizes: tuple[int, ...] = (0,)
    """The numbers of training examples before pruning, each class in its share; 0 is all of them.
    With several, the table shows how the turn from easy to hard moves with the budget of data."""
    budget: Literal["steps", "epochs"] = "steps"
    """Whether a subset is trained for as many steps as all data, or for as many epochs."""
    balance: float = 0.0
    """The least part of its share in a subset that every class keeps."""
    skip: float = 0.1
    """The part of the training examples, the hardest, that middle leaves out."""
    score_epochs: int = 2
    """The epochs of training after which scores that are read once are read."""
    score_replicates: int = 3
    """The number of networks, with seeds of their own, over which scores are averaged."""
    memorisation_models: int = 60
    """The number of networks for each estimate of memorisation, each trained on a random 70 %."""
    memorisation_epochs: int = 0
    """Their epochs; 0 is --epochs. Memorisation shows once networks fit all of their training examples."""
    score_model: Literal["same", "lenet_300_100", "conv_2", "conv_4"] = "same"
    """The network that scores, if it is not the trained one."""
    score_width: int = 0
    """The width of the network that scores; 0 is its own."""
    label_noise: float = 0.0
    """The part of the training labels that are replaced by another class; validation and test stay clean."""
    distil: tuple[Literal[*SCORES, RANDOM], ...] = ()
    """The scores whose subsets are also trained under a teacher, a network that was trained on all data."""
    temperature: float = 4.0
    """The temperature of the distillation."""
    teacher_weight: float | None = None
    """The weight of the teacher against the labels; by default 1 less the fraction kept, at least 0.5."""
    seeds: int = 3
    """Repetitions with other random numbers; the split of the data and the scores stay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("scores", "fractions", "sizes"):
            values = getattr(self, name)
            require(0 < len(values) == len(set(values)), self, name, "different values, at least one")
        for name in ("orders", "distil"):
            require(len(getattr(self, name)) == len(set(getattr(self, name))), self, name, "different values")
        require(all(0 < f <= 1 for f in self.fractions), self, "fractions", "above 0 and at most 1")
        require(min(self.sizes) >= 0, self, "sizes", "at least 0")
        require({*self.distil} <= {*self.scores}, self, "distil", f"among --scores {' '.join(self.scores)}")
        for name in ("balance", "skip"):
            require(0 <= getattr(self, name) <= 1, self, name, "at least 0 and at most 1")
        largest = max(self.fractions)
        require("middle" not in self.kept() or self.skip + largest <= 1, self, "skip", f"at most 1 − {largest:g}")
        require(1 <= self.score_epochs <= self.epochs, self, "score_epochs", f"1 to the {self.epochs} of a training")
        require(0 <= self.label_noise < 1, self, "label_noise", "at least 0 and below 1")
        require(self.temperature > 0, self, "temperature", "above 0")
        weight = self.teacher_weight
        require(weight is None or 0 <= weight <= 1, self, "teacher_weight", "at least 0 and at most 1")
        for name in ("score_width", "memorisation_epochs"):
            require(getattr(self, name) >= 0, self, name, "at least 0")
        for name in ("score_replicates", "seeds"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        require(self.memorisation_models >= 2, self, "memorisation_models", "at least 2")
        require(self.on_nan != "skip", self, "on_nan", "record or stop here")
        require(self.reduction == "any", self, "reduction", "any: the last batch of a subset is not full")
        taught = "none with --distil, whose teacher sees images as they are"
        require(not self.distil or self.augment == "none", self, "augment", taught)

    def kept(self) -> tuple[str, ...]:
        """The orders to train."""
        return self.orders or ("hard", "easy", *["middle"] * (self.label_noise > 0))

    def scored(self) -> tuple[str, ...]:
        """The scores other than the control."""
        return tuple(score for score in self.scores if score != RANDOM)

    def weight_of_teacher(self, fraction: float) -> float:
        """Return the teacher's weight: the less data, the more it is worth (Ben-Baruch et al., 2024)."""
        return max(0.5, 1 - fraction) if self.teacher_weight is None else self.teacher_weight

    def transfers(self) -> bool:
        """Whether another network scores."""
        return self.score_model != "same" or self.score_width > 0

    def scorer(self) -> str:
        """The name of the network that scores."""
        return f"{self.score_model}_{self.score_width}" if self.score_width else self.score_model

    def networks(self) -> int:
        """The number of networks that are trained to score the examples of each size."""
        return (1 + self.transfers()) * self.score_replicates * bool(self.scored()) + self.memorising()

    def memorising(self) -> int:
        """The number of them that are trained on random parts of these."""
        replicates = (1 + self.transfers()) * self.score_replicates
        return replicates * self.memorisation_models * ("memorisation" in self.scores)

    def cells(self) -> list["Cell"]:
        """Return all trainings: size by size all data first, then from large to small subsets."""
        names = [(score, order) for score in self.scores for order in (self.kept() if score != RANDOM else ("",))]
        kinds = [(*name, taught) for taught in (False, True) for name in names if not taught or name[0] in self.distil]
        return [
            Cell(size, score, order, taught, fraction, seed)
            for size in self.sizes
            for fraction, some in [(1.0, [(ALL, "", False)]), *((f, kinds) for f in sorted(self.fractions)[::-1])]
            for score, order, taught in sorted(some, key=lambda kind: kind[2])
            for seed in range(self.seeds)
        ]


class Cell(NamedTuple):
    """A training: on a part of so many examples, with a seed."""

    size: int
    score: str
    order: str
    taught: bool
    fraction: float
    seed: int

    @property
    def name(self) -> str:
        """The name in tables."""
        chosen = f"{self.score}, {self.order} first" if self.order in ("hard", "easy") else self.score
        chosen = f"{self.score}, middle" if self.order == "middle" else chosen
        return f"{chosen}, taught" if self.taught else chosen

    def path(self, folder: pathlib.Path) -> pathlib.Path:
        """Return the file of its record."""
        name = "-".join(part for part in (self.score, self.order, "taught" * self.taught) if part)
        return folder / "cells" / f"size_{self.size}" / name / f"fraction_{self.fraction}" / f"seed_{self.seed}.json"


class Study(NamedTuple):
    """Training examples to prune, and what trains on them."""

    size: int
    basis: problems.Basis
    changed: np.ndarray  # (examples,) bool: is the label not the true one?

    @property
    def labels(self) -> jax.Array:
        """The labels of the training examples, (examples,)."""
        return self.basis.dataset.train.y

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.labels.max()) + 1

    def composition(self, rows: np.ndarray) -> dict[str, float]:
        """Return for a subset the shares of the rarest and the commonest class, their entropy, and changed labels."""
        shares = np.bincount(np.asarray(self.labels)[rows], minlength=self.classes) / rows.sum()
        present = shares[shares > 0]
        return {
            "rarest_class": float(shares.min()),
            "commonest_class": float(shares.max()),
            "class_entropy": float(-np.sum(present * np.log2(present))),
            "changed_labels": float(self.changed[rows].mean()),
        }


def studies(config: Config) -> list[Study]:
    """Return a study for each size. Subsets and scores index its training examples, and see no others.

    Raises InputError for more examples than there are.
    """
    dataset = problems.load(config)
    there = len(dataset.train.y)
    require(max(config.sizes) <= there, config, "sizes", f"at most the {there} training examples")
    all_studies = []
    for size in config.sizes:
        pruned = data.limit(dataset, size or there, seed=config.seed)
        labels, changed = noisy(pruned.train.y, config.label_noise, seed=config.seed)
        pruned = pruned._replace(train=pruned.train._replace(y=labels))
        all_studies.append(Study(size, problems.basis(config, pruned), changed))
    return all_studies


def noisy(labels: jax.Array, part: float, *, seed: int) -> tuple[jax.Array, np.ndarray]:
    """Return labels with a part replaced by other classes, equally likely; and (examples,) bool: the replaced ones."""
    rng, given = np.random.default_rng(seed), np.asarray(labels)
    changed = np.zeros(len(given), bool)
    changed[rng.permutation(len(given))[: round(part * len(given))]] = True
    classes = int(given.max()) + 1
    other = (given + rng.integers(1, classes, len(given))) % classes
    return jnp.asarray(np.where(changed, other, given), jnp.int32), changed
