"""The records of a run: a line of JSON for each training, in a file of its folder."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]


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
