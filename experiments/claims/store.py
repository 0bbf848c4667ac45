"""Claims of papers, tested by a run: stored beside the run, and with --evidence as a file for `make report`."""

import dataclasses
import datetime
import itertools
import json
import math
import pathlib
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from experiments.claims.record import VERSION, Evidence, Point, parse
from experiments.claims.record import Claim as Claim
from experiments.reports import searches, tables
from experiments.runs import environment
from experiments.runs.processes import Pod
from experiments.runs.records import LevelRecord
from jaxticket import files
from jaxticket.errors import InputError

# Flags that say where things lie on one machine, or on which machines.
_OWN = {
    f"--{name.replace('_', '-')}"
    for name in ("data_dir", "out", "evidence", *(f.name for f in dataclasses.fields(Pod)))
}
AXES = ("weights kept (%)", "test accuracy (%)")  # of curves of accuracy
_HIDDEN = "platform"  # of the environment: names a kernel's build, which no number depends on


class Tested(Protocol):
    """A configuration whose claims can be stored: `runs.config.Run`, or alike."""

    @property
    def EXPERIMENT(self) -> str: ...
    @property
    def setting(self) -> str: ...
    @property
    def evidence(self) -> pathlib.Path | None: ...
    def hash(self) -> str: ...
    def folder(self) -> pathlib.Path: ...
    def command(self) -> list[str]: ...


def curves(records: Iterable[LevelRecord], branches: Sequence[str]) -> dict[str, list[Point]]:
    """Return the curve of each branch over the levels of a search, in %, along `AXES`."""
    rows = searches.summarise(records, branches)
    return {tables.plain(branch): percent(searches.curve(rows, branch)) for branch in branches}


def percent(curve: Iterable[Point]) -> list[Point]:
    """Return points of accuracy against density, given as fractions, in %."""
    return [(100 * x, 100 * mean, 100 * half) for x, mean, half in curve]


def write(
    config: Tested,
    claims: Sequence[Claim],
    *,
    series: Mapping[str, Sequence[Point]] | None = None,
    axes: tuple[str, str] | None = None,
) -> None:
    """Write claims.json into the folder of the run and, with --evidence, a file of the same content there.

    A file of the same run is replaced; a warning names the claims that are removed from the folder of --evidence.

    Args:
      config: the configuration of the run. Of its command, flags that name places of this machine are left out.
      claims: the claims.
      series: the curves to plot, (x, mean, half its interval) each.
      axes: their names, needed where there are series.

    Raises:
      InputError: claims that `parse` would refuse.
      CheckpointError: a file cannot be written.
    """
    content = {
        "version": VERSION,
        "experiment": config.EXPERIMENT,
        "hash": config.hash(),
        "setting": config.setting,
        "command": _shareable(config.command()),
        "commit": environment.commit(digits=9) or f"jaxticket {environment.versions()['jaxticket']}",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "versions": {name: v for name, v in environment.versions().items() if name != _HIDDEN},
        "claims": [{"id": claim.id, **dataclasses.asdict(claim)} for claim in claims],
        "series": {name: [list(p) for p in curve if math.isfinite(p[1])] for name, curve in (series or {}).items()},
        "axes": None if axes is None else list(axes),
    }
    text = _short(json.dumps(tables.finite(content), indent=1, ensure_ascii=False)) + "\n"
    destinations = [config.folder() / "claims.json"]
    if config.evidence is not None:
        destinations.append(config.evidence / f"{config.EXPERIMENT}-{config.hash()}.json")
    for file in destinations:
        evidence = parse(text, file)
        if file.parent == config.evidence:
            _warn_of_removed(file, evidence)
        with files.writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(file, text)


def _warn_of_removed(file: pathlib.Path, evidence: Evidence) -> None:
    """Warn of claims of the same run with another selection, such as fewer densities."""
    try:
        before = parse(file.read_text(encoding="utf-8"), file).claims
    except (OSError, UnicodeError, InputError):
        return  # none, or one to be written anew
    if lost := {claim.claim for claim in before} - {claim.claim for claim in evidence.claims}:
        fix = "a command that asks for more keeps them"
        print(f"warning: {file} no longer holds: {' '.join(sorted(lost))} ({fix})", file=sys.stderr)


def _short(text: str) -> str:
    """Return the same JSON with each list of numbers in one line: the points of a curve."""
    return re.sub(r"\[\n([^]\[{}\"]*)\]", lambda match: f"[{' '.join(match[1].split())}]", text)


def _shareable(command: Sequence[str]) -> str:
    """Return the command as it is typed on any machine: no flags of places, other paths by their last part."""
    kept, dropping = [], False
    for word in itertools.chain.from_iterable(w.split("=", 1) if w.startswith("--") else [w] for w in command):
        if word.startswith("--"):
            dropping = word in _OWN
        if not dropping:
            kept.append(pathlib.PurePath(word).name if pathlib.PurePath(word).is_absolute() else word)
    return shlex.join(kept)
