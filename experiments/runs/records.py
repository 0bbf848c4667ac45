"""The records of a run: a line of JSON for each training, in a file of its folder."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Typed:
    """A record whose fields have names; a line of metrics.jsonl holds them, and then the measurements.

    Attributes:
      metrics: test_accuracy and validation_accuracy, as fractions, and other measurements.
    """

    metrics: Mapping[str, Any]

    @classmethod
    def parse(cls, line: Record) -> Self:
        """Read a line of metrics.jsonl. Raises KeyError for one that lacks a field."""
        own = {name: line[name] for name in cls.names()}
        return cls(**own, metrics={name: value for name, value in line.items() if name not in own})

    @classmethod
    def names(cls) -> list[str]:
        """Return the fields that lead a line."""
        return [field.name for field in dataclasses.fields(cls) if field.name != "metrics"]

    def line(self) -> dict[str, Any]:
        """Return the line of metrics.jsonl."""
        return {**{name: getattr(self, name) for name in self.names()}, **self.metrics}


@dataclasses.dataclass(frozen=True)
class LevelRecord(Typed):
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
class CellRecord(Typed):
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


def whole(file: pathlib.Path) -> list[Record]:
    """Read the records in a file that `keep` writes, up to a torn or damaged line; none if the file does not exist."""
    records: list[Record] = []
    for line in file.read_bytes().splitlines(keepends=True) if file.exists() else []:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return records
        if not line.endswith(b"\n") or not isinstance(record, dict):
            return records
        records.append(record)
    return records
