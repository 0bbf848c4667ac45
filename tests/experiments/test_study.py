"""A study needs a configuration, a function that yields records, and claims: all else is there."""

import dataclasses
import json
import re

import jax
import pytest

from experiments.claims import levels
from experiments.claims.judge import Contest, by_replicate
from experiments.configs import PRESETS
from experiments.runs import command_line
from experiments.runs.config import Training
from experiments.runs.records import LevelRecord
from jaxticket import filters, training
from tests.cheap import cheap  # noqa: F401  # used by every test here

BRANCHES = ("trained", "untrained")
CONTEST = Contest("Somebody 2020, training", "Training helps.", "a lot", "trained", "untrained", 1.0)


@dataclasses.dataclass(frozen=True)
class Config(Training):
    """Train, and do not."""

    EXPERIMENT = "helps"
    NOT_HASHED = Training.NOT_HASHED | {"seeds"}

    seeds: int = 2
    """Repetitions."""
    densities: tuple[float, ...] = (1.0,)
    """Nothing is pruned."""


def records(config, basis, watch):
    """Two networks of each seed."""
    fit = training.fit(basis.recipe, on_nan=config.on_nan, **watch.looks)
    for seed in range(config.seeds):
        key = jax.random.key(seed)
        params, state = basis.init(key)
        before = basis.evaluate(params, state)
        mask = filters.full_mask(params, filters.weights())
        fitted = fit(params, state, mask, key, step=0, steps=basis.steps)
        after = basis.evaluate(fitted.params, fitted.state)
        for branch, metrics in zip(BRANCHES, (after, before), strict=True):
            yield LevelRecord(metrics, seed, 0, branch, 1.0, [])


def claims(config, found):
    """Training helps."""
    return CONTEST.judged(*(by_replicate(found, branch=branch, level=0) for branch in BRANCHES))


STUDY = levels.study_of(
    lambda argv: command_line.training_config(Config(), argv, PRESETS, description="A study."),
    records,
    claims,
    branches=lambda config: BRANCHES,
    size=lambda config: (config.seeds, 1),
)


def test_a_study_is_trained_reported_and_resumed(tmp_path, capsys):
    flags = ["--epochs", "2", "--batch-size", "20", "--learning-rate", "0.01", "--out", str(tmp_path)]
    assert STUDY.main(flags) == 0
    shown = capsys.readouterr().out.partition("pruned to 1 of the maskable weights:")[2]
    assert re.search(r"bias .* dense\n.*kernel .* 1\.0000\n", shown)
    (run,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(line["replicate"], line["branch"]) for line in lines] == [(s, b) for s in range(2) for b in BRANCHES]
    (claim,) = json.loads((run / "claims.json").read_text())["claims"]
    mean = sum(a["test_accuracy"] - b["test_accuracy"] for a, b in zip(lines[::2], lines[1::2], strict=True)) / 2
    assert claim["value"] == pytest.approx(100 * mean)
    assert "trained" in (run / "table.txt").read_text()
    assert (run / "report.html").exists()
    assert STUDY.main([*flags, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert f"{run} (exists: would resume)" in printed
    assert "4 at most" in printed
