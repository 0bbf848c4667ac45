"""Tickets found on few examples: what is recorded of each arm, that no test example matters, and that a run goes on.

Whole runs are in the slow tier: compiling, plots and checkpoints take them seconds each.
"""

import json
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from experiments import prac
from experiments.runs.records import ArmRecord
from experiments.studies.prac import claims, search, sets
from jaxticket import data, data_pruning, tickets, training
from jaxticket.methods.datasets import prac as method
from tests.cheap import cheap  # noqa: F401  # used by every test here

ARMS = (*search.ARMS, *search.OTHERS)
SMALL = ["--epochs", "3", "--rounds", "2", "--seeds", "2", "--minimum", "0.3", "--preset", "lenet_mnist5k"]
ARGUMENTS = [*SMALL, "--checkpoint-seconds", "0"]


def trained(out, *more):
    assert prac.main([*ARGUMENTS, *more, "--out", str(out)]) == 0
    (run,) = out.iterdir()
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs"))


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_every_arm_of_every_seed_is_recorded(finished):
    found = {(r["seed"], r["branch"]): r for r in records(finished)}
    assert sorted(found) == sorted((seed, arm) for seed in range(2) for arm in ARMS)
    examples = max(r["examples"][0] for r in found.values() if "examples" in r)
    for (seed, arm), record in found.items():
        assert record["density"] == (1.0 if arm == "dense" else pytest.approx(0.64, abs=1e-4))
        if arm in search.ARMS:
            assert record["examples"][0] == examples
            assert sum(record["classes"]) == record["examples"][-1]
            spent = sum(e * n for e, n in zip(record["epochs"], record["examples"], strict=True))
            assert record["saved"] == pytest.approx(1 - spent / (2 * 3 * examples))
        sizes = found[seed, "prac"]["examples"]
        assert arm != "random_subset" or record["examples"] == sizes
        assert arm != "imp" or (record["examples"] == [examples] * 2 and record["saved"] == 0)
    for seed in range(2):
        kept, free = (found[seed, "prac"][name] for name in ("examples", "without_minimum"))
        assert kept == [max(size, math.ceil(0.3 * examples)) for size in free]
        assert found[seed, "imp"]["without_minimum"][0] == examples


@pytest.mark.slow
def test_the_random_mask_is_that_of_prac_elsewhere(finished):
    ticket, moved = (jt.load(finished / "seed_0" / arm) for arm in ("prac", "random_mask"))
    for layer in ("hidden1", "hidden2", "output"):
        mask, other = ticket.mask[layer]["kernel"], moved.mask[layer]["kernel"]
        assert mask.sum() == other.sum()
        assert (mask != other).any()
        assert jnp.array_equal(ticket.params[layer]["kernel"], moved.params[layer]["kernel"])


@pytest.mark.slow
def test_the_report_and_the_claims(finished):
    table = (finished / "table.txt").read_text()
    assert "82.85 to 92.77 %" in table
    assert "examples of each round" in table
    assert "experiments/prac.py" in (finished / "report.html").read_text()
    assert (finished / "sets.png").read_bytes().startswith(b"\x89PNG")
    stored = json.loads((finished / "claims.json").read_text())
    assert [c["seeds"] for c in stored["claims"]] == [2] * 5
    assert set(stored["series"]) == {"imp", "prac", "random subset", "hard", "prac without minimum"}


@pytest.mark.slow
def test_no_test_example_enters_a_set_or_a_score(tmp_path, monkeypatch):
    """With test examples that could not be overlooked, everything but the accuracy on them stays as it was.

    Three rounds: the second set depends on which epoch was the best.
    """
    load = data.mnist5k

    def planted(**sizes):
        found = load(**sizes)
        return found._replace(test=data.Split(found.test.x.at[:].set(1e3), found.test.y * 0))

    more = ["--rounds", "3", "--seeds", "1"]
    clean = trained(tmp_path / "clean", *more)
    monkeypatch.setattr(data, "mnist5k", planted)
    again = trained(tmp_path / "planted", *more)
    without = lambda run: [{k: v for k, v in r.items() if k != "test_accuracy"} for r in records(run)]
    assert without(again) == without(clean)
    assert [r["test_accuracy"] for r in records(again)] != [r["test_accuracy"] for r in records(clean)]
    files = sorted(clean.glob("seed_0/sets/*.json"))
    assert len(files) == 3
    for file in files:
        assert (again / file.relative_to(clean)).read_text() == file.read_text()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(finished, tmp_path, monkeypatch):
    save = tickets.Store.save

    def killed(self, *level, key):
        save(self, *level, key=key)
        if self.directory.name == "imp":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tickets.Store, "save", killed)
        with pytest.raises(SystemExit) as end:
            trained(tmp_path)
    assert end.value.code == 130
    (run,) = tmp_path.iterdir()
    kept = {path: path.stat().st_mtime_ns for path in run.glob("seed_0/prac/record.json")}
    assert kept
    assert list(run.glob("seed_0/rounds/imp/level_000"))
    trained(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # loaded, not trained again
    assert records(run) == records(finished)
    assert not (run / "checkpoint").exists()
    assert not list(run.glob("seed_*/rounds/*"))


@pytest.mark.slow
def test_sets_of_one_network_train_another(finished, tmp_path):
    again = trained(tmp_path, "--sets-from", str(finished), "--rate", "0.3", "--seeds", "1")
    sizes = {r["branch"]: r["examples"] for r in records(finished) if r["seed"] == 0 and "examples" in r}
    assert next(r for r in records(again) if r["branch"] == "prac")["examples"] == sizes["prac"]
    for number in range(2):
        file = f"seed_0/sets/round_{number:03d}.json"
        assert json.loads((again / file).read_text())["rows"] == json.loads((finished / file).read_text())["rows"]


@pytest.mark.slow
def test_the_sets_are_those_of_the_training_examples(finished):
    config = search.Config(validation=500, test=1000)
    train = search.lab(config).basis.dataset.train
    subset, provenance = data_pruning.load_subset(finished / "seed_1" / "sets" / "round_001.json", data=train)
    assert provenance["seed"] == 1
    assert int(subset.sum()) == next(
        r["examples"][1] for r in records(finished) if (r["seed"], r["branch"]) == (1, "prac")
    )


@pytest.mark.slow
def test_sets_that_do_not_fit_are_refused_before_anything_is_trained(finished, tmp_path, capsys):
    for arguments, words in (
        (["--rounds", "3"], "as many --seeds and --rounds"),
        (["--seeds", "3"], "as many --seeds and --rounds"),
        (["--seed", "1"], "other training examples"),
    ):
        with pytest.raises(SystemExit):
            trained(tmp_path, "--sets-from", str(finished), *arguments)
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_all_arms_start_from_weights_early_in_the_first_round(finished, tmp_path):
    """A third of its 15 steps; its cost is counted as before, and what the early weights cost is a part of it."""
    run = trained(tmp_path, "--rewind-fraction", "0.3", "--seeds", "1")
    assert json.loads((run / "config.json").read_text())["rewind_fraction"] == 0.3
    early, late = ([jt.load(folder / "seed_0" / arm) for arm in ARMS] for folder in (run, finished))
    first = early[0].params["hidden1"]["kernel"]
    for mine, other in zip(early, late, strict=True):
        assert (mine.step, other.step) == (5, 0)
        assert jnp.array_equal(mine.params["hidden1"]["kernel"], first)
        assert not jnp.array_equal(first, other.params["hidden1"]["kernel"])
    assert early[-1].mask["hidden1"]["kernel"].all()  # dense
    for mine in records(run):
        other = next(r for r in records(finished) if (r["seed"], r["branch"]) == (0, mine["branch"]))
        assert mine["test_accuracy"] != other["test_accuracy"] or mine["loss"] != other["loss"]
        if mine["branch"] in search.ARMS:
            assert mine["epochs"][0] == other["epochs"][0]
            assert mine["saved"] == pytest.approx(1 - sum(map(math.prod, zip(mine["epochs"], mine["examples"]))) / 1800)


def test_what_each_arm_leaves_for_the_next_round():
    """Example 0 is hard, 1 is seen differently, and the hardest of the others is the last."""
    observed = {"correct": jnp.arange(6) > 0, "el2n": jnp.arange(6) / 10}
    statistics = data_pruning.update(data_pruning.init(6, ("el2n",)), jnp.arange(6), observed)
    found = method.Outcome(1, statistics, jnp.zeros(6, int), jnp.arange(6) % 6 == 1)
    choosers = sets.choosers(6, sizes=[6, 6, 4], key=jax.random.key(0), threshold=0, minimum=0.2)
    chosen = {arm: np.flatnonzero(choose(found)).tolist() for arm, choose in choosers.items()}
    assert chosen.pop("random_subset") != [0, 1, 2, 3]
    assert chosen == {"imp": [0, 1, 2, 3, 4, 5], "prac": [0, 1], "hard": [0, 5]}
    assert int(choosers["random_subset"](found).sum()) == 4


def test_arms_differ_only_in_when_rounds_end():
    config = search.Config(tolerance=0.1, rewind_fraction=0.25)
    plans = {arm: config.plan(arm, 10) for arm in search.ARMS}
    assert plans.pop("imp") == (16, 0.2, 16, 0.0, 3, 0)
    assert set(plans.values()) == {(16, 0.2, 16, 0.1, 3, 0)}
    assert search.Config(warmup=25, epochs=16).plan("prac", 160).warmup == 2  # whole epochs of ten steps
    assert search.Config(rewind_step=7).plan("prac", 10).rewind_step == 7


def test_every_ticket_is_trained_alike_on_all_examples():
    calls = []

    def train(params, state, mask, key, *, subset, **others):
        calls.append((int(subset.sum()), params, key, others))
        return training.Fitted(params, state, None, 0.5)

    basis = types.SimpleNamespace(evaluate=lambda params, state: {"test_accuracy": float(params["kernel"].sum())})
    lab = search.Lab(basis, types.SimpleNamespace(examples=50), None, train, {}, 33)
    ticket = jt.Ticket({"kernel": jnp.ones((2, 2))}, {"kernel": jnp.eye(2, dtype=bool)}, step=7)
    keys = search.keys_of(0, 0)
    record = search._trained(lab, ticket, search._Seed(2, None, keys, None), branch="prac")
    ((size, params, key, others),) = calls
    assert size == 50
    assert jnp.array_equal(params["kernel"], jnp.eye(2))
    assert key == keys.final
    assert others == {"step": 0, "steps": 33}
    measured = {"loss": 0.5, "test_accuracy": 2.0}
    assert record.line() == {"seed": 2, "branch": "prac", "density": 0.5, "collapsed": [], **measured}


def test_claims_follow_the_records():
    accuracies = {"prac": 0.88, "imp": 0.9, "random_subset": 0.88, "hard": 0.87, "random_mask": 0.8, "dense": 0.9}
    accuracy = lambda seed, arm, value: {"test_accuracy": value + 1e-4 * np.sin(7 * seed + len(arm))}
    records = [
        ArmRecord(accuracy(seed, arm, value), seed=seed, branch=arm, saved=0.9, density=0.1, collapsed=[])
        for seed in range(3)
        for arm, value in accuracies.items()
    ]
    assert [claim.verdict for claim in claims.claims(records)] == ["holds", "fails", "holds", "holds", "holds"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "0"], "--rounds is 0, but must be at least 1"),
        (["--rate", "1"], "--rate is 1"),
        (["--tolerance", "2"], "--tolerance is 2"),
        (["--minimum", "-0.1"], "--minimum is -0.1"),
        (["--threshold", "-1"], "--threshold is -1"),
        (["--seeds", "0"], "--seeds is 0"),
        (["--sets-from", "nowhere"], "--sets-from is nowhere, but must be"),
        (["--rewind-step", "-1"], "--rewind-step is -1"),
        (["--rewind-step", "96"], "--rewind-step is 96, but must be below the 80 steps of a training"),
        (["--rewind-fraction", "1"], "--rewind-fraction is 1"),
        (["--rewind-fraction", "0.1", "--rewind-step", "5"], "0 with --rewind-fraction"),
    ],
)
def test_bad_flags(arguments, words, capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        prac.main(["--preset", "lenet_mnist5k", *arguments, "--out", str(tmp_path / "runs")])
    message = capsys.readouterr().err
    assert end.value.code == 2
    assert words in message
    assert message.count("\n") == 1
    assert not (tmp_path / "runs").exists()
