"""Winning tickets on real digits: four replicates of the experiment, as a user runs it."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.science

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "imp.py"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The results by level. In a process of its own: the tests' XLA flags are for equal bits, not for speed."""
    out = tmp_path_factory.mktemp("runs")
    command = [sys.executable, str(SCRIPT), "--epochs", "12", "--out", str(out)]
    subprocess.run(command, env={**os.environ, "XLA_FLAGS": ""}, check=True)
    (results,) = out.glob("*/results.json")
    print((results.parent / "table.txt").read_text())
    return json.loads(results.read_text())


def bounds(row, branch):
    accuracy = row[branch]["test_accuracy"]
    return accuracy["mean"] - accuracy["half_width"], accuracy["mean"] + accuracy["half_width"]


def test_the_winning_ticket_beats_both_controls_at_low_density(rows):
    last = rows[-1]
    assert last["density"] <= 0.05
    low, _ = bounds(last, "ticket")
    assert low > bounds(last, "random_reinit")[1]
    assert low > bounds(last, "random_ticket")[1]


def test_the_winning_ticket_matches_the_dense_network_below_a_fifth_of_its_weights(rows):
    dense = rows[0]["ticket"]["test_accuracy"]["mean"]
    sparse = [row["ticket"]["test_accuracy"]["mean"] for row in rows if row["density"] < 0.2]
    assert max(sparse) > dense - 0.01


def test_the_gap_to_the_controls_grows_as_weights_go(rows):
    gap = lambda row: row["ticket"]["test_accuracy"]["mean"] - row["random_ticket"]["test_accuracy"]["mean"]
    assert gap(rows[-1]) > gap(rows[9]) > gap(rows[0]) == 0
