"""The verdicts on the levels of a finished search, by the rigorous definition of a winning ticket."""

import dataclasses
import json
import pathlib
from typing import Any, ClassVar

from experiments.claims import store
from experiments.reports import searches
from experiments.studies.imp import claims
from experiments.studies.imp.config import of_run
from jaxticket import diagnostics, files
from jaxticket.errors import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    """Judge the levels of a finished search, of which the branch `retrained` was trained."""

    EXPERIMENT: ClassVar[str] = "verdict"

    run: pathlib.Path
    """The folder of the search."""
    best: float | None = None
    """The best known test accuracy of the dense network, as a fraction.
    By default the search's own, so that no recipe counts as bad."""
    margin: float = 0.005
    """The least difference of accuracies that counts; 0.005 is half a point."""
    evidence: pathlib.Path | None = None
    """Also store the claims that the verdicts test in this folder, such as docs/evidence, for `make report`."""

    def hash(self) -> str:
        """Return the hash of the search."""
        return self.run.resolve().name.rpartition("-")[2]

    @property
    def setting(self) -> str:
        """The setting of the search."""
        return of_run(self.run).setting

    def folder(self) -> pathlib.Path:
        """The folder of verdicts and claims."""
        return self.run / "verdict"

    def command(self) -> list[str]:
        """The command that a user types to judge the search so."""
        best = [] if self.best is None else ["--best", str(self.best)]
        return [
            "python",
            f"experiments/{self.EXPERIMENT}.py",
            "--run",
            str(self.run),
            *best,
            "--margin",
            f"{self.margin}",
        ]


def verdicts(config: Config) -> dict[int, diagnostics.Verdict]:
    """Return the verdict on each level below the dense one. Raises InputError if a branch is missing."""
    of_run(config.run)
    tickets = _accuracies(config.run / "metrics.jsonl", "ticket")
    dense = tickets.get(0, [])
    reinits = _accuracies(config.run / "metrics.jsonl", "random_reinit")
    retrained = _accuracies(config.run / "branches" / "retrained" / "metrics.jsonl", "retrained")
    levels = sorted(level for level in retrained if level > 0 and level in tickets)
    if not levels:
        raise InputError(f"{config.run} has no retrained level; run experiments/branch.py --branch retrained first")
    best = sum(dense) / len(dense) if config.best is None else config.best
    return {
        level: diagnostics.verdict(
            dense, tickets[level], reinits[level], retrained[level], best=best, margin=config.margin
        )
        for level in levels
    }


def judge(config: Config) -> str:
    """Write verdict.txt, verdict.json and the claims into the run, and return the text."""
    by_level = verdicts(config)
    lines = [
        "Differences of mean test accuracies in points; * beyond its margin.",
        "level  verdict           dense − reinit  ticket − reinit  ticket − dense  ticket − retrained",
    ]
    for level, v in by_level.items():
        cells = [_shown(c) for c in (v.sparsity, v.gap, v.prize, v.gain)]
        columns = "  ".join(cell.rjust(width) for cell, width in zip(cells, (14, 15, 14, 18), strict=True))
        lines.append(f"{level:5}  {v.outcome.value:16}  {columns}")
    text = "\n".join(lines) + "\n"
    files.write_text(config.run / "verdict.txt", text)
    files.write_text(config.run / "verdict.json", json.dumps({k: _plain(v) for k, v in by_level.items()}, indent=1))
    store.write(config, claims.of_verdicts(by_level))
    return text


def _accuracies(file: pathlib.Path, branch: str) -> dict[int, list[float]]:
    """Test accuracies of a branch, one a replicate, by level."""
    by_level: dict[int, list[float]] = {}
    for record in searches.read(file, branch):
        by_level.setdefault(record.level, []).append(record.metrics["test_accuracy"])
    return by_level


def _shown(comparison: diagnostics.Comparison) -> str:
    return f"{100 * comparison.difference:.2f} (> {100 * comparison.margin:.2f}){'*' if comparison.clear else ' '}"


def _plain(verdict: diagnostics.Verdict) -> dict[str, Any]:
    fields = {name: value for name, value in verdict._asdict().items() if name != "outcome"}
    return {"outcome": verdict.outcome.value, **{name: value._asdict() for name, value in fields.items()}}
