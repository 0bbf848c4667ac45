"""Claims of papers, tested by a run: stored beside the run, and with --evidence as a file that `make report` shows."""

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
from typing import Any, NamedTuple, Protocol

from experiments import _environment, _levels, _report
from experiments._claims import FAILS, HOLDS, UNDECIDED, VERSION, Evidence, Point, Verdict, parse
from experiments._claims import Claim as Claim
from experiments._pod import Pod
from jaxticket import diagnostics
from jaxticket.errors import InputError

# Flags that say where things lie on one machine, or on which machines.
_OWN = {
    f"--{name.replace('_', '-')}"
    for name in ("data_dir", "out", "evidence", *(f.name for f in dataclasses.fields(Pod)))
}
AXES = ("weights kept (%)", "test accuracy (%)")  # of curves of accuracy
_HIDDEN = "platform"  # of the environment: names a kernel's build, which no number depends on


class Tested(Protocol):
    """A configuration that claims can be stored of: `_config.Run`, or alike."""

    @property
    def EXPERIMENT(self) -> str: ...
    @property
    def setting(self) -> str: ...
    @property
    def evidence(self) -> pathlib.Path | None: ...
    def hash(self) -> str: ...
    def folder(self) -> pathlib.Path: ...


class Finding(NamedTuple):
    """What was measured, and what follows from it: the fields of a claim that `above` fills in."""

    measured: str
    value: float | None
    half_width: float | None
    seeds: int
    verdict: Verdict
    why: str


def above(differences: Sequence[float], *, least: float = 0.0, unit: str = "points") -> Finding:
    """Is the mean of paired differences, one a seed, above `least`? As its 95 % interval (Student's t) says.

    It holds if the whole interval lies above `least` and fails if the whole interval lies below; else so many seeds do
    not decide it. Differences are in `unit`; a negative `least` asks for "no worse by that much". Raises InputError
    for no differences.

    >>> above([1.0, 1.2, 1.1]).verdict, above([1.0, -1.2, 0.1]).verdict, above([1.0, 1.2, 1.1], least=2.0).verdict
    ('holds', 'not testable at this size', 'fails')
    >>> above([1.0, 1.2, 1.1]).why
    'the interval over 3 seeds, 0.85 to 1.35 points, lies above 0'
    """
    found, seeds = diagnostics.interval(differences), len(differences)
    verdict: Verdict = HOLDS if found.low > least else FAILS if found.high < least else UNDECIDED
    where = {HOLDS: "lies above", FAILS: "lies below", UNDECIDED: "contains"}[verdict]
    shown = f"{found.low:.2f} to {found.high:.2f} {unit}"
    why = f"the interval over {seeds} seeds, {shown}, {where} {least:g}"
    if not math.isfinite(found.half_width):
        alone = "one seed has no interval" if seeds == 1 else "a training diverged"
        value = found.mean if math.isfinite(found.mean) else None
        return Finding("–" if value is None else f"{value:+.2f} {unit}", value, None, seeds, UNDECIDED, alone)
    measured = f"{found.mean:+.2f} ± {found.half_width:.2f} {unit}"
    return Finding(measured, found.mean, found.half_width, seeds, verdict, why)


class Contest(NamedTuple):
    """A claim that one thing is more accurate than another.

    Attributes:
      above, below: their names among the records. density: at which they are compared.
      least: points by which the first must be above; a negative number asks for no worse by that much.
    """

    paper: str
    claim: str
    expected: str
    above: str
    below: str
    density: float
    least: float = 0.0

    def judged(self, first: Mapping[int, float], second: Mapping[int, float], *, unit: str = "points") -> list[Claim]:
        """The claim, of the accuracies of both by seed; none where no seed has both."""
        differences = points(first, second)
        found = [above(differences, least=self.least, unit=unit)] if differences else []
        return [Claim(self.paper, self.claim, self.expected, *each) for each in found]


def points(better: Mapping[int, float], worse: Mapping[int, float]) -> list[float]:
    """Differences of accuracies, given as fractions, in points: one for each seed that both have."""
    return [100 * (better[seed] - worse[seed]) for seed in sorted(better.keys() & worse.keys())]


def by_seed(records: Iterable[_report.Record], **fields: Any) -> dict[int, float]:
    """The test accuracy of each seed (or replicate) among the records with these fields.

    >>> by_seed([{"seed": 0, "width": 8, "test_accuracy": 0.9}, {"seed": 0, "width": 9, "test_accuracy": 1}], width=8)
    {0: 0.9}
    """
    mine = [r for r in records if all(r[name] == value for name, value in fields.items())]
    return {r["seed" if "seed" in r else "replicate"]: r["test_accuracy"] for r in mine}


def curves(records: Iterable[_report.Record], branches: Sequence[str]) -> dict[str, list[Point]]:
    """The curve of each branch over the levels of a search, in %, along `AXES`."""
    rows = _levels.summarise(records, branches)
    return {_report.plain(branch): percent(_levels.curve(rows, branch)) for branch in branches}


def percent(curve: Iterable[Point]) -> list[Point]:
    """Points of accuracy against density, given as fractions, in %."""
    return [(100 * x, 100 * mean, 100 * half) for x, mean, half in curve]


def store(
    config: Tested,
    claims: Sequence[Claim],
    *,
    command: Sequence[str],
    series: Mapping[str, Sequence[Point]] | None = None,
    axes: tuple[str, str] | None = None,
) -> None:
    """Writes claims.json into the folder of the run and, with --evidence, a file of the same content there.

    Args:
      command: what the user typed. Where things lie on this machine is left out of it.
      series: curves to plot, (x, mean, half its interval) each. axes: their names, needed where there are series.

    A file of the same run is replaced; what only the one stored with --evidence held is told. Raises InputError for
    claims that `parse` would refuse, CheckpointError if a file cannot be written.
    """
    found = {
        "version": VERSION,
        "experiment": config.EXPERIMENT,
        "hash": config.hash(),
        "setting": config.setting,
        "command": _shareable(command),
        "commit": _environment.commit(digits=9) or f"jaxticket {_environment.versions()['jaxticket']}",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "versions": {name: v for name, v in _environment.versions().items() if name != _HIDDEN},
        "claims": [{"id": claim.id, **dataclasses.asdict(claim)} for claim in claims],
        "series": {name: [list(p) for p in curve if math.isfinite(p[1])] for name, curve in (series or {}).items()},
        "axes": None if axes is None else list(axes),
    }
    text = _short(json.dumps(_report.finite(found), indent=1, ensure_ascii=False)) + "\n"
    files = [config.folder() / "claims.json"]
    if config.evidence is not None:
        files.append(config.evidence / f"{config.EXPERIMENT}-{config.hash()}.json")
    for file in files:
        made = parse(text, file)
        if file.parent == config.evidence:
            _tell_lost(file, made)
        with files.writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(file, text)


def _tell_lost(file: pathlib.Path, made: Evidence) -> None:
    """Of the same run with another selection, such as fewer densities."""
    try:
        before = parse(file.read_text(encoding="utf-8"), file).claims
    except (OSError, UnicodeError, InputError):
        return  # none, or one to be written anew
    if lost := {claim.claim for claim in before} - {claim.claim for claim in made.claims}:
        fix = "a command that asks for more keeps them"
        print(f"warning: {file} no longer holds: {' '.join(sorted(lost))} ({fix})", file=sys.stderr)


def _short(text: str) -> str:
    """The same JSON, with each list of numbers in one line: the points of a curve."""
    return re.sub(r"\[\n([^]\[{}\"]*)\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def _shareable(command: Sequence[str]) -> str:
    """The command as it is typed on any machine: without flags of places, and of other paths the last part only."""
    kept, dropping = [], False
    for word in itertools.chain.from_iterable(w.split("=", 1) if w.startswith("--") else [w] for w in command):
        if word.startswith("--"):
            dropping = word in _OWN
        if not dropping:
            kept.append(pathlib.PurePath(word).name if pathlib.PurePath(word).is_absolute() else word)
    return shlex.join(kept)
