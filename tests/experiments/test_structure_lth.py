"""Coarse tickets: each arm trains what it says, packed layers compute the same, and a killed run resumes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from experiments import structure_lth
from experiments.claims.record import FAILS, HOLDS
from experiments.runs.records import SweepRecord
from experiments.studies.structure_lth import networks
from experiments.studies.structure_lth.claims import claims
from experiments.studies.structure_lth.config import ARMS, Config
from jaxticket import execution, models, structure, tickets
from jaxticket.methods.channels.structure_lth import regroup
from tests.cheap import cheap, check_is_refused  # noqa: F401  # cheap: by every test

FLAGS = ["--data", "mnist5k", "--validation", "300", "--epochs", "2", "--batch-size", "60", "--rounds", "2"]
FLAGS += ["--seeds", "2", "--timings", "1", "--parts", "2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    assert structure_lth.main([*FLAGS, "--out", str(out)]) == 0
    (run,) = out.iterdir()
    return run


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_every_arm_is_trained_from_the_same_weights(finished):
    lines = records(finished)
    assert [(line["curve"], line["seed"]) for line in lines] == [(a, s) for s in (0, 1) for a in ("dense", *ARMS)]
    for seed in (0, 1):
        kept = {line["curve"]: line["kept"] for line in lines if line["seed"] == seed}
        assert kept["dense"] == 1
        assert kept["unstructured"] == pytest.approx(0.64, abs=1e-3)
        assert kept["refill"] == kept["random"] < kept["refill_plus"] < 1
        regrouped = [line["regrouped"] for line in lines if (line["seed"], line["curve"]) == (seed, "regroup")]
        assert regrouped == [1]  # of 60 and 20 units, in two parts of at least 17
        load = lambda *where, at=0, seed=seed: jt.load(
            tickets.Store(finished.joinpath(f"seed_{seed}", *where)).path(at)
        )
        ticket = load("search", at=2)
        mask = load("round_2", "regroup").mask["hidden1"]["kernel"]
        np.testing.assert_array_equal(mask, regroup(ticket.mask["hidden1"]["kernel"], parts=2))
        shapes = {arm: jax.tree.map(jnp.shape, load("round_2", arm).params) for arm in ("refill", "random")}
        assert shapes["refill"] == shapes["random"]


def test_the_report_has_all_tickets(finished):
    for name in ("report.html", "table.txt", "results.json", "accuracy.png", "claims.json"):
        assert (finished / name).stat().st_size > 0
    points = json.loads((finished / "results.json").read_text())["points"]
    assert [point["arm"] for point in points] == ["dense", *ARMS]
    assert all(point["time"] > 0 for point in points)
    assert len(json.loads((finished / "claims.json").read_text())["claims"]) == 7


def test_a_killed_run_resumes(finished, capsys):
    lines = (finished / "metrics.jsonl").read_text().splitlines(keepends=True)
    (finished / "metrics.jsonl").write_text("".join(lines[:8]) + lines[8][:20])
    command = [*FLAGS, "--out", str(finished.parent)]
    assert structure_lth.main([*command, "--dry-run"]) == 0
    assert "12, of which 8 are there" in capsys.readouterr().out
    assert structure_lth.main(command) == 0
    resumed = (finished / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert resumed[:8] == lines[:8]
    accuracies = lambda lines: [json.loads(line)["test_accuracy"] for line in lines]
    assert accuracies(resumed) == accuracies(lines)


@pytest.mark.parametrize("layers", [("hidden1",), ("hidden1", "hidden2"), ("hidden2",)])
def test_packed_layers_are_the_masked_network(layers):
    model = models.lenet_300_100(features=30, width=47)
    params, state = model.init(jax.random.key(0))
    params = jax.tree.map(lambda p: jax.random.normal(jax.random.key(p.size), p.shape), params)
    mask = jax.tree.map(lambda p: None, params)
    for name in layers:
        drawn = jax.random.uniform(jax.random.key(1), params[name]["kernel"].shape) < 0.3
        mask[name]["kernel"] = regroup(drawn, parts=3, least_channels=2)
    masked, x = jt.apply_mask(params, mask), jax.random.normal(jax.random.key(2), (5, 30))
    packed = networks.pack(masked, mask, layers)
    assert {name for name in packed if isinstance(packed[name]["kernel"], execution.Blocks)} == set(layers)
    logits = jax.jit(networks.run_dense_layers)(packed, x)
    np.testing.assert_allclose(logits, model.apply(masked, state, x, train=False, key=None)[0], rtol=1e-4, atol=1e-3)


def test_random_channels_are_as_many():
    model = models.lenet_300_100(features=30, width=20)
    params, state = model.init(jax.random.key(0))
    apply = lambda params, x: model.apply(params, state, x, train=False, key=None)[0]
    groups = structure.trace(apply, params, jnp.ones((1, 30)))
    mask = jax.tree.map(lambda p: None, params)
    mask["hidden1"]["kernel"] = jnp.arange(60)[None] % 3 == 0
    kept = networks.channels(mask, groups)
    assert kept["hidden1/kernel:1"].tolist() == [i % 3 == 0 for i in range(60)]
    assert kept["hidden2/kernel:1"].all()
    drawn = networks.draw(kept, jax.random.key(0))
    assert drawn["hidden1/kernel:1"].sum() == 20
    assert not np.array_equal(drawn["hidden1/kernel:1"], kept["hidden1/kernel:1"])


def test_claims():
    config = Config(rounds=(4,))
    accuracy = {"dense": 0.9, "unstructured": 0.9, "refill": 0.88, "refill_plus": 0.899, "regroup": 0.9, "random": 0.87}
    (reached,) = config.sparsities()
    times = {"refill": 0.4, "regroup": 1.5}
    lines = [
        SweepRecord(
            {"test_accuracy": value + 1e-4 * seed, "time": times.get(arm, 1.0) + 0.01 * seed},
            arm,
            0.0 if arm == "dense" else reached,
            seed,
        )
        for arm, value in accuracy.items()
        for seed in range(3)
    ]
    judged = claims(config, lines)
    assert [claim.verdict for claim in judged] == [HOLDS, FAILS, HOLDS, HOLDS, HOLDS, HOLDS, FAILS]
    assert judged[0].value == pytest.approx(1)
    assert judged[5].value == pytest.approx(59)


@pytest.mark.parametrize(
    "flags",
    [
        ["--rounds", "0"],
        ["--rounds", "4,4"],
        ["--rate", "1"],
        ["--fill", "0"],
        ["--parts", "0"],
        ["--ratio", "-1"],
        ["--seeds", "0"],
    ],
)
def test_bad_flags(flags, tmp_path, capsys):
    check_is_refused(structure_lth.main, flags, tmp_path, capsys)
