"""Winning tickets on real digits: four replicates of the experiment, its own functions and its own numbers."""

import pytest

from experiments import _report, imp
from experiments.configs.imp import Config

pytestmark = pytest.mark.science


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    config = Config(levels=18, replicates=4, epochs=15, out=tmp_path_factory.mktemp("runs"))
    return _report.summarise(imp.run(config), imp.BRANCHES)


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
