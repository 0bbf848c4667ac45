"""Winning tickets on real digits: four replicates of the experiment, as a user runs it."""

import json
import os
import pathlib
import statistics
import subprocess
import sys

import pytest

from jaxticket.diagnostics import interval

pytestmark = pytest.mark.science

LEVELS = 18
SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "imp.py"


@pytest.fixture(scope="module")
def accuracy(tmp_path_factory):
    """Test accuracy by (branch, replicate, level). Run in a process of its own: the tests' XLA flags make it slow."""
    out = tmp_path_factory.mktemp("runs")
    command = [sys.executable, str(SCRIPT), "--levels", str(LEVELS), "--epochs", "12", "--out", str(out)]
    subprocess.run(command, env={**os.environ, "XLA_FLAGS": ""}, check=True)
    (metrics,) = out.glob("*/metrics.jsonl")
    print((metrics.parent / "table.txt").read_text())
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    return {(r["branch"], r["replicate"], r["level"]): r["test_accuracy"] for r in records}


def by_replicate(accuracy, branch, levels):
    """Each replicate's mean accuracy over some levels."""
    replicates = {replicate for _, replicate, _ in accuracy}
    return [statistics.fmean(accuracy[branch, r, level] for level in levels) for r in sorted(replicates)]


def bounds(values):
    found = interval(values)
    return found.low, found.high


def test_winning_tickets_beat_both_controls_below_five_percent(accuracy):
    sparsest = [level for level in range(LEVELS) if 0.8**level <= 0.05]
    low, _ = bounds(by_replicate(accuracy, "ticket", sparsest))
    for control in ("random_reinit", "random_ticket"):
        assert low > bounds(by_replicate(accuracy, control, sparsest))[1]
        # At some density also by itself, where four replicates leave wide intervals.
        assert any(
            bounds(by_replicate(accuracy, "ticket", [level]))[0] > bounds(by_replicate(accuracy, control, [level]))[1]
            for level in sparsest
        )


def test_a_winning_ticket_matches_the_dense_network_below_a_fifth_of_its_weights(accuracy):
    dense = statistics.fmean(by_replicate(accuracy, "ticket", [0]))
    sparse = [statistics.fmean(by_replicate(accuracy, "ticket", [l])) for l in range(LEVELS) if 0.8**l < 0.2]
    assert max(sparse) > dense - 0.01


def test_the_gap_to_the_random_ticket_grows_as_weights_go(accuracy):
    def gap(levels):
        ticket, control = (by_replicate(accuracy, branch, levels) for branch in ("ticket", "random_ticket"))
        return statistics.fmean(ticket) - statistics.fmean(control)

    assert gap([0]) == 0
    assert 0 < gap(range(1, 6)) < gap(range(6, 12)) < gap(range(12, LEVELS))
