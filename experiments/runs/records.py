"""The records of a run: a line of JSON for each training, in a file of its folder."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

Line = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Record:
    """The result of a training; a line of metrics.jsonl holds its fields, and then the measurements.

    Attributes:
      metrics: test_accuracy and validation_accuracy, as fractions, and other measurements.
    """

    metrics: Mapping[str, Any]

    @classmethod
    def parse(cls, line: Line) -> Self:
        """Read a line of metrics.jsonl. Raises KeyError for one that lacks a field."""
        own = {f.name: line[f.name] for f in cls._leading() if f.default is dataclasses.MISSING or f.name in line}
        return cls(**own, metrics={name: value for name, value in line.items() if name not in own})

    def line(self) -> dict[str, Any]:
        """Return the line of metrics.jsonl, without fields that are None."""
        own = {field.name: getattr(self, field.name) for field in self._leading()}
        return {**{name: value for name, value in own.items() if value is not None}, **self.metrics}

    @classmethod
    def _leading(cls) -> list[dataclasses.Field[Any]]:
        return [field for field in dataclasses.fields(cls) if field.name != "metrics"]


@dataclasses.dataclass(frozen=True)
class LevelRecord(Record):
    """The result of training one branch at one level of a search.

    Attributes:
      replicate: the number of the replicate.
      level: the number of the level.
      branch: the name of the branch.
      density: the part of the weights that the ticket keeps.
      collapsed: the layers of which it keeps none.
    """

    replicate: int
    level: int
    branch: str
    density: float
    collapsed: Sequence[str]


@dataclasses.dataclass(frozen=True)
class CellRecord(Record):
    """The result of training a method at a density with a seed.

    Attributes:
      method: the name of the method.
      density: the density that was asked for.
      seed: the seed.
      kept: the part of the weights that was kept in the end.
      collapsed: the layers of which nothing was kept.
    """

    method: str
    density: float
    seed: int
    kept: float
    collapsed: Sequence[str]


@dataclasses.dataclass(frozen=True)
class DiagramRecord(Record):
    """The result of two retrainings of a network that was pruned to a density.

    Attributes:
      temperature: the epochs of its dense training, or the size of the batches.
      density: the part of each layer's weights that was kept.
      seed: the seed.
    """

    temperature: int
    density: float
    seed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmRecord(Record):
    """The result of training the ticket of an arm on all examples; an arm that searches has a value for each round.

    Attributes:
      seed: the seed.
      branch: the name of the arm.
      examples: the number of examples of each round.
      without_minimum: that of a PrAC set without a floor.
      epochs: the number of epochs of each round.
      saved: the part of the iterations that the search saved.
      classes: the number of examples of each class in the last round.
      density: the part of the weights that the ticket keeps.
      collapsed: the layers of which it keeps none.
    """

    seed: int
    branch: str
    examples: Sequence[int] | None = None
    without_minimum: Sequence[int] | None = None
    epochs: Sequence[int] | None = None
    saved: float | None = None
    classes: Sequence[int] | None = None
    density: float
    collapsed: Sequence[str]

    def line(self) -> dict[str, Any]:
        """Return the line of metrics.jsonl, in the order in which the ticket of the arm keeps it."""
        return dict(sorted(super().line().items()))


@dataclasses.dataclass(frozen=True)
class SubsetRecord(Record):
    """The result of training on a part of the training examples.

    Attributes:
      size: the number of training examples before pruning, 0 for all.
      score: the name of the score that chose the part.
      order: the examples that were kept: hard, easy or middle; empty without a score.
      taught: whether a teacher taught the network.
      fraction: the part that was kept.
      seed: the seed.
      name: the name in tables.
      examples: the number of examples of the part.
    """

    size: int
    score: str
    order: str
    taught: bool
    fraction: float
    seed: int
    name: str
    examples: int


@dataclasses.dataclass(frozen=True)
class SweepRecord(Record):
    """The quality of a network that was pruned in one shot.

    Attributes:
      curve: the name of the pruning.
      sparsity: the part of the weights, or the number of layers, that was removed.
      seed: the seed.
    """

    curve: str
    sparsity: float
    seed: int


@dataclasses.dataclass(frozen=True)
class TrainingRecord(Record):
    """The result of a training on ImageNet.

    Attributes:
      training: the name of the training.
      density: the part of the weights that was kept.
    """

    training: str
    density: float


@dataclasses.dataclass(frozen=True)
class StepRecord(Record):
    """The numbers that were measured at a step of a training on ImageNet.

    Attributes:
      training: the name of the training.
      step: the number of steps that it has made.
    """

    training: str
    step: int


def whole(file: pathlib.Path) -> list[Line]:
    """Read the lines in a file that `keep` writes, up to a torn or damaged one; none if the file does not exist."""
    lines: list[Line] = []
    for text in file.read_bytes().splitlines(keepends=True) if file.exists() else []:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            return lines
        if not text.endswith(b"\n") or not isinstance(line, dict):
            return lines
        lines.append(line)
    return lines
