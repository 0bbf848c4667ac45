"""Fresh weights against fine-tuned ones: masks and budgets are the paper's, and a finished run trains nothing."""

import json

import jax
import numpy as np
import pytest

import jaxticket as jt
from experiments import scratch
from experiments.claims.record import HOLDS
from experiments.runs.records import LevelRecord
from experiments.studies.scratch import BRANCHES, Config, claims
from jaxticket import tickets
from tests.cheap import cheap, check_is_refused, check_trains_nothing, run_noted  # noqa: F401  # cheap: by every test

FLAGS = ["--epochs", "4", "--densities", "0.5", "--seeds", "2", "--placement", "map"]  # of five steps


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, and the first step and the number of steps of each of its trainings."""
    return run_noted(scratch.main, FLAGS, tmp_path_factory.mktemp("runs"))


def same(a, b):
    return all(map(np.array_equal, *map(jax.tree.leaves, (a, b))))


def test_budgets_are_those_of_the_paper(trained):
    """Half of the weights, but not of the biases: 7 whole epochs cost no more than the 4 of the dense network."""
    _, steps = trained
    assert steps == [(0, 20), (15, 5), (0, 20), (0, 35)]


def test_one_mask_is_trained_from_pruned_and_from_fresh_weights(trained):
    run, _ = trained
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(line["branch"], line["replicate"]) for line in lines] == [(b, seed) for b in BRANCHES for seed in (0, 1)]
    for seed in (0, 1):
        stores = {name: tickets.Store(run / f"seed_{seed}/density_0.5/{name}") for name in BRANCHES[1:]}
        dense = tickets.Store(run / f"seed_{seed}/density_1.0/dense")
        found = {name: jt.load(store.path(0)) for name, store in stores.items()}
        tuned, short, long = found.values()
        assert same(tuned.mask, short.mask)
        assert same(short, long)
        assert float(jt.density(tuned.params, tuned.mask)) == pytest.approx(0.5, abs=1e-4)
        pruned, _ = dense.load_trained(0, like=jt.load(dense.path(0)))
        assert same(tuned.params, jt.apply_mask(pruned, tuned.mask))
        assert not same(tuned.params, short.params)


def test_a_finished_run_trains_nothing(trained):
    check_trains_nothing(scratch.main, FLAGS, trained[0])


def test_claims():
    accuracies = {"fine_tuned": 0.9, "scratch_e": 0.89, "scratch_b": 0.899}
    records = [
        LevelRecord({"test_accuracy": accuracy + 1e-4 * seed}, seed, 0, branch, 0.2, [])
        for branch, accuracy in accuracies.items()
        for seed in range(3)
    ]
    short, long = claims(Config(), records)
    assert (round(short.value, 2), round(long.value, 2)) == (-1.0, -0.1)
    assert (short.verdict == HOLDS, long.verdict == HOLDS) == (False, True)


@pytest.mark.parametrize("flags", [["--densities", "0.2,1"], ["--densities", "0.2,0.2"], ["--seeds", "0"]])
def test_bad_flags(flags, tmp_path, capsys):
    check_is_refused(scratch.main, flags, tmp_path, capsys)
