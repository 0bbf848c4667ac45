"""The records of a run: a line of JSON for each training, in a file of its folder."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class LevelRecord:
    """What the training of one branch at one level of a search came to.

    Attributes:
      replicate, level, branch: which training it is.
      density: the part of the weights that the ticket keeps.
      collapsed: the layers of which it keeps none.
      metrics: test_accuracy and validation_accuracy, as fractions, and what else was measured.
    """

    replicate: int
    level: int
    branch: str
    density: float
    collapsed: Sequence[str]
    metrics: Mapping[str, Any]

    @classmethod
    def parse(cls, line: Record) -> "LevelRecord":
        """Read a line of metrics.jsonl. Raises KeyError for one that lacks a field."""
        fields = [field.name for field in dataclasses.fields(cls) if field.name != "metrics"]
        own = {name: line[name] for name in fields}
        return cls(**own, metrics={name: value for name, value in line.items() if name not in own})

    def line(self) -> dict[str, Any]:
        """Return the line of metrics.jsonl."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        metrics = own.pop("metrics")
        return {**own, **metrics}


def whole(file: pathlib.Path) -> list[Record]:
    """The records in a file that `keep` writes, up to a line that is torn or damaged; none if there is no such file."""
    found: list[Record] = []
    for line in file.read_bytes().splitlines(keepends=True) if file.exists() else []:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return found
        if not line.endswith(b"\n") or not isinstance(record, dict):
            return found
        found.append(record)
    return found
