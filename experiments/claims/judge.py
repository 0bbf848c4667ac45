"""Verdicts on claims, by the intervals of paired differences."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.claims.record import FAILS, HOLDS, UNDECIDED, Verdict
from experiments.claims.record import Claim as Claim
from experiments.runs.records import LevelRecord, Record
from jaxticket import diagnostics


class Finding(NamedTuple):
    """A measurement and its verdict: the fields of a claim that `above` fills in."""

    measured: str
    value: float | None
    half_width: float | None
    seeds: int
    verdict: Verdict
    why: str


def above(differences: Sequence[float], *, least: float = 0.0, unit: str = "points") -> Finding:
    """Judge whether the mean of paired differences lies above `least`, by its 95 % interval (Student's t).

    The claim holds if the whole interval lies above `least` and fails if the whole interval lies below; otherwise the
    seeds do not decide it.

    Args:
      differences: a difference for each seed.
      least: the claimed value; a negative one asks for "no worse by that much".
      unit: of the differences.

    Raises:
      InputError: no differences.

    >>> above([1.0, 1.2, 1.1]).verdict, above([1.0, -1.2, 0.1]).verdict, above([1.0, 1.2, 1.1], least=2.0).verdict
    ('holds', 'not testable at this size', 'fails')
    >>> above([1.0, 1.2, 1.1]).why
    'the interval over 3 seeds, 0.85 to 1.35 points, lies above 0'
    """
    interval, seeds = diagnostics.interval(differences), len(differences)
    verdict: Verdict = HOLDS if interval.low > least else FAILS if interval.high < least else UNDECIDED
    where = {HOLDS: "lies above", FAILS: "lies below", UNDECIDED: "contains"}[verdict]
    shown = f"{interval.low:.2f} to {interval.high:.2f} {unit}"
    why = f"the interval over {seeds} seeds, {shown}, {where} {least:g}"
    if not math.isfinite(interval.half_width):
        alone = "one seed has no interval" if seeds == 1 else "a training diverged"
        value = interval.mean if math.isfinite(interval.mean) else None
        return Finding("–" if value is None else f"{value:+.2f} {unit}", value, None, seeds, UNDECIDED, alone)
    measured = f"{interval.mean:+.2f} ± {interval.half_width:.2f} {unit}"
    return Finding(measured, interval.mean, interval.half_width, seeds, verdict, why)


class Contest(NamedTuple):
    """A claim that one branch or method is more accurate than another.

    Attributes:
      paper: the paper, as in `Claim`.
      claim: the claim in one sentence.
      expected: the number of the paper.
      above: the name of the first among the records.
      below: the name of the second.
      density: the density at which they are compared.
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
        """Return the claim, from the accuracies of both by seed; nothing where no seed has both."""
        differences = points(first, second)
        findings = [above(differences, least=self.least, unit=unit)] if differences else []
        return [Claim(self.paper, self.claim, self.expected, *finding) for finding in findings]


def points(better: Mapping[int, float], worse: Mapping[int, float]) -> list[float]:
    """Return the differences of accuracies (given as fractions) in points: one for each seed that both have."""
    return [100 * (better[seed] - worse[seed]) for seed in sorted(better.keys() & worse.keys())]


def by_replicate(records: Iterable[LevelRecord], *, branch: str, level: int) -> dict[int, float]:
    """The test accuracy of each replicate of a branch at a level."""
    mine = [record for record in records if (record.branch, record.level) == (branch, level)]
    return {record.replicate: record.metrics["test_accuracy"] for record in mine}


def by_seed(records: Iterable[Record], **fields: Any) -> dict[int, float]:
    """The test accuracy of each seed among the records with these fields and measurements."""
    lines = [record.line() for record in records]
    mine = [line for line in lines if all(line[name] == value for name, value in fields.items())]
    return {line["seed"]: line["test_accuracy"] for line in mine}
