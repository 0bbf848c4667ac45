"""The file of stored claims: its fields, and reading it with care."""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any, Literal

from jaxticket.errors import InputError

Verdict = Literal["holds", "fails", "not testable at this size"]
HOLDS, FAILS, UNDECIDED = VERDICTS = ("holds", "fails", "not testable at this size")
Point = tuple[float, float, float]  # x, mean, and half its 95 % interval (NaN for a single value)
VERSION = 2  # the first had no setting


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of a paper, and the measurement that tests it.

    Attributes:
      paper: as it stands in a table of methods, such as "Evci et al. 2020, RigL", which links the two.
      claim: one sentence, without the measurement, so that it can be linked to.
      expected: the paper's number, with its setting.
      measured: our number, with its unit.
      value: the same as a number; None where there is none, as after a training that diverged.
      half_width: half the 95 % interval; None where there is none.
      seeds: the number of repetitions.
      verdict: as the file stores it; `outcomes` has the words that are shown.
      why: the grounds of the verdict.
    """

    paper: str
    claim: str
    expected: str
    measured: str
    value: float | None
    half_width: float | None
    seeds: int
    verdict: Verdict
    why: str

    @property
    def id(self) -> str:
        """The anchor of the claim, which depends on its words only."""
        return slug(self.claim)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The claims that a run tested, and their grounds.

    Attributes:
      experiment: the name of the script.
      hash: identifies the configuration.
      setting: the network and the data; empty in files of the first version.
      command: the command of the user, without paths of a machine.
      commit: the commit of the code that wrote the file.
      date: the day on which it was written.
      versions: the versions of the packages, by name.
      claims: the claims.
      series: the curves to plot, by name.
      axes: the names of the axes.
    """

    experiment: str
    hash: str
    setting: str
    command: str
    commit: str
    date: str
    versions: Mapping[str, str]
    claims: tuple[Claim, ...]
    series: Mapping[str, tuple[Point, ...]]
    axes: tuple[str, str] | None

    @property
    def id(self) -> str:
        """The name of its file."""
        return f"{self.experiment}-{self.hash}"


def load(folder: pathlib.Path) -> list[Evidence]:
    """Return all that is stored in a folder, by name. Raises InputError, naming file and field, for a damaged file."""
    evidence = []
    for file in sorted(folder.glob("*.json")):
        try:
            evidence.append(parse(file.read_text(encoding="utf-8"), file))
        except (OSError, UnicodeError) as error:
            raise InputError(f"{file} cannot be read ({error}); store the claims again, or delete it") from error
        if file.stem != evidence[-1].id:
            raise InputError(f"{file} holds {evidence[-1].id}; name it {evidence[-1].id}.json")
    return evidence


def parse(text: str, file: pathlib.Path) -> Evidence:
    """Parse a file that `store` wrote. Raises InputError, naming the file and the field, for any other."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"is not JSON ({error})") from error
    if isinstance(values, dict) and values.get("version") == 1:
        values = {"setting": "", **values}
    top = _fields(file, "", values, {"version", *(f.name for f in dataclasses.fields(Evidence))})
    version = top.pop("version")
    _require(version in (1, VERSION), file, "version", version, f"1 or {VERSION}")
    _require(isinstance(top["setting"], str), file, "setting", top["setting"], "a text")
    for name in ("experiment", "hash", "command", "commit", "date"):
        _require(bool(top[name]) and isinstance(top[name], str), file, name, top[name], "a text")
    _require(re.fullmatch(r"\d{4}-\d\d-\d\d", top["date"]), file, "date", top["date"], "a date such as 2025-01-31")
    _require(_texts(top["versions"]), file, "versions", top["versions"], "texts by name")
    _require(isinstance(top["claims"], list), file, "claims", top["claims"], "a list")
    top["claims"] = tuple(_claim(file, f"claims[{at}].", each) for at, each in enumerate(top["claims"]))
    ids = [claim.id for claim in top["claims"]]
    _require(len(set(ids)) == len(ids), file, "claims", ids, "claims of different words")
    top["series"] = _series(file, top["series"])
    axes = top["axes"]
    named = isinstance(axes, list) and len(axes) == 2 and all(isinstance(name, str) for name in axes)
    _require(named or (axes is None and not top["series"]), file, "axes", axes, "the names of both axes")
    return Evidence(**{**top, "axes": tuple(axes) if axes else None})


def slug(text: str) -> str:
    """Return the text as an anchor: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _claim(file: pathlib.Path, at: str, values: Any) -> Claim:
    fields = _fields(file, at, values, {"id", *(field.name for field in dataclasses.fields(Claim))})
    for name in ("paper", "claim", "expected", "measured", "why"):
        _require(bool(fields[name]) and isinstance(fields[name], str), file, at + name, fields[name], "a text")
    value = fields["value"]
    known = _finite(value) or (value is None and fields["verdict"] == UNDECIDED)
    _require(known, file, f"{at}value", value, "a finite number, or null if nothing was decided")
    half = fields["half_width"]
    _require(
        half is None or (_finite(half) and half >= 0), file, f"{at}half_width", half, "a number from 0 on, or null"
    )
    seeds = fields["seeds"]
    _require(type(seeds) is int and seeds > 0, file, f"{at}seeds", seeds, "a whole number from 1 on")
    _require(fields["verdict"] in VERDICTS, file, f"{at}verdict", fields["verdict"], f"one of {', '.join(VERDICTS)}")
    stored = fields.pop("id")
    claim = Claim(**fields)
    _require(stored == claim.id, file, f"{at}id", stored, f"{claim.id}, which follows from the claim")
    return claim


def _series(file: pathlib.Path, values: Any) -> dict[str, tuple[Point, ...]]:
    _require(isinstance(values, dict), file, "series", values, "curves by name")
    curves = {}
    for name, curve in values.items():
        at = f"series[{name!r}]"
        _require(isinstance(curve, list), file, at, curve, "a list of points")
        for p in curve:
            good = isinstance(p, list) and len(p) == 3 and all(map(_finite, p[:2])) and (p[2] is None or _finite(p[2]))
            _require(good, file, at, p, "points [x, mean, half width or null]")
        curves[name] = tuple((x, mean, math.nan if half is None else half) for x, mean, half in curve)
    return curves


def _fields(file: pathlib.Path, at: str, values: Any, names: set[str]) -> dict[str, Any]:
    """Return the values, which must have exactly these names."""
    _require(isinstance(values, dict), file, at.rstrip(".") or "the whole", values, "an object of claims")
    for name in sorted(names - values.keys()):
        raise _damaged(file, f"has no field {at}{name}")
    for name in sorted(values.keys() - names):
        raise _damaged(file, f"has a field {at}{name:.80}, which claims do not have")
    return dict(values)


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _texts(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(value, str) for value in values.values())


def _require(condition: Any, file: pathlib.Path, name: str, value: Any, what: str) -> None:
    if not condition:
        raise _damaged(file, f"field {name} is {value!r:.80}, but must be {what}")


def _damaged(file: pathlib.Path, what: str) -> InputError:
    return InputError(f"{file}: {what}; store the claims again, or delete it")
