"""Soups beside pruning alone: what is recorded of each phase, and that a killed run ends in the same numbers.

Whole runs are in the slow tier: compiling, plots and checkpoints take them seconds each.
"""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from experiments import soups
from experiments.studies.soups import lab
from jaxticket import tickets
from tests.cheap import cheap  # noqa: F401  # used by every test here

SMALL = ["--epochs", "1", "--retrain-epochs", "1", "--members", "2", "--phases", "2", "--seeds", "2"]
ARGUMENTS = [*SMALL, "--densities", "0.25", "--vary", "lengths", "--placement", "map", "--checkpoint-seconds", "0"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    assert soups.main([*ARGUMENTS, "--out", str(out)]) == 0
    (run,) = out.iterdir()
    return run


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_networks_are_evaluated_with_statistics_that_are_computed_again(monkeypatch):
    monkeypatch.setattr(lab.problems, "recalibration", lambda config, basis: lambda params, state: params + 10 * state)
    basis = types.SimpleNamespace(evaluate=lambda params, state: {"validation_accuracy": (params, state)})
    evaluate = lab.recalibrated(lab.Config(), basis)
    assert evaluate(2, 3) == {"validation_accuracy": (2, 32)}


@pytest.mark.slow
def test_every_phase_of_every_seed_is_recorded(finished):
    found = records(finished)
    assert sorted((r["replicate"], r["level"], r["branch"]) for r in found) == sorted(
        (seed, level, branch) for seed in range(2) for level in range(2) for branch in soups.BRANCHES
    )
    size = 784 * 60 + 60 * 20 + 20 * 10
    assert {r["density"] for r in found} == {round(d * size) / size for d in (0.5, 0.25)}
    assert len({r["test_accuracy"] for r in found}) > 6


@pytest.mark.slow
def test_the_soup_is_the_average_of_its_members_and_goes_on(finished):
    of = lambda name: tickets.Store(finished / "seed_0" / "density_0.25" / name)
    first, second = (jt.load(of("soup").path(phase)) for phase in (0, 1))
    mixed, _ = of("soup").load_trained(0, like=first)
    assert all(map(np.array_equal, *map(jax.tree.leaves, (jt.apply_mask(mixed, second.mask), second.params))))
    alone, _ = of("imp").load_trained(0, like=first)
    longer, _ = of("imp_as_long").load_trained(0, like=first)
    for a, b in ((mixed, alone), (alone, longer)):
        assert not jnp.array_equal(a["hidden1"]["kernel"], b["hidden1"]["kernel"])
    # All of them began with the same network, pruned to the same mask.
    for name in ("imp", "imp_as_long"):
        assert jnp.array_equal(jt.load(of(name).path(0)).params["hidden1"]["kernel"], first.params["hidden1"]["kernel"])


@pytest.mark.slow
def test_the_report(finished):
    table = (finished / "table.txt").read_text()
    assert "best member" in table
    assert "on validation" in table
    assert "experiments/soups.py" in (finished / "report.html").read_text()
    assert (finished / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_dry_run(tmp_path, capsys):
    assert soups.main([*ARGUMENTS, "--out", str(tmp_path), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "(new)" in printed
    assert "trainings    18: 2 seeds" in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(finished, tmp_path, monkeypatch):
    save = tickets.Store.save

    def killed(self, *level, key):
        save(self, *level, key=key)
        if self.path(0).parent.name == "imp":
            raise KeyboardInterrupt

    arguments = [*ARGUMENTS, "--out", str(tmp_path)]
    with monkeypatch.context() as patched:
        patched.setattr(tickets.Store, "save", killed)
        with pytest.raises(SystemExit) as end:
            soups.main(arguments)
    assert end.value.code == 130
    (run,) = tmp_path.iterdir()
    kept = {
        path: path.stat().st_mtime_ns for path in run.glob("seed_*/**/record.json") if "checkpoint" not in path.parts
    }
    assert kept
    assert soups.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # loaded, not trained again
    assert records(run) == records(finished)
    assert not (run / "checkpoint").exists()


def test_what_the_members_differ_in():
    config = lab.Config(members=2, vary="learning_rates", retrain_epochs=2, epochs=4)
    shared = lab.lab(config)
    values = [shared.varied.fresh({"w": jnp.zeros(2)}, i).hyperparams for i in range(shared.varied.members)]
    assert [float(v["learning_rate"]) for v in values] == [1.0, 0.5, 1.0, 1.0, 1.0]
    assert [float(v["length"]) for v in values] == [0.5, 0.5, 0.5, 1.0, 1.0]  # as long as both members; and the dense
    assert {float(v["weight_decay"]) for v in values} == {0.0}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--densities", "0.1,1"], "--densities is (0.1, 1.0), but must be between 0 and 1"),
        (["--members", "0"], "--members is 0, but must be at least 1"),
        (["--decay", "cosine"], "--decay is cosine, but must be left out"),
        (["--warmup", "5"], "--warmup is 5, but must be left out"),
        (["--vary", "seeds"], "invalid choice"),
        (["--preset", "resnet20_cifar"], "must be one of lenet_mnist5k, lenet_fashion, conv4_cifar"),
    ],
)
def test_bad_flags(arguments, words, capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        soups.main([*arguments, "--out", str(tmp_path / "runs")])
    message = capsys.readouterr().err
    assert end.value.code == 2
    assert words in message
    assert message.count("\n") == 1
