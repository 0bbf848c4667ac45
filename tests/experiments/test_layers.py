"""Layer tickets: layers and channels go before training until as few multiply-adds are left, and a run resumes."""

import json

import jax
import numpy as np
import pytest

from experiments import layers
from experiments.claims.record import FAILS, HOLDS
from experiments.runs.records import SweepRecord
from experiments.studies.layers.config import Config
from experiments.studies.layers.report import claims, report
from experiments.studies.layers.sweep import Lab, make_smaller
from experiments.training import problems
from jaxticket import models
from tests.cheap import cheap, check_is_refused  # noqa: F401  # cheap: by every test

METHODS = ("layers_snip", "channels_random")
FLAGS = ["--epochs", "1", "--removed", "2", "--seeds", "2", "--methods", ",".join(METHODS), "--rounds", "1"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(problems, "make_model", lambda config, dataset: models.residual_mlp(blocks=4, width=16))


def test_layers_and_channels_keep_the_same_multiply_adds(tmp_path):
    lab = Lab(Config(out=tmp_path, removed=(2,)))
    whole = lab.variables(jax.random.key(0))
    sizes = {}
    for method in Config().methods:
        smaller = make_smaller(lab, whole, method, 2, jax.random.key(1))
        sizes[method] = lab.traced(smaller).macs() / lab.channels.macs()
        depth, width = (len(smaller["params"]["blocks"]), smaller["params"]["blocks"]["block1"]["hidden"]["bias"].size)
        assert (depth, width < 16) == ((2, False) if method.startswith("layers") else (4, True))
    assert len({sizes[f"layers_{by}"] for by in ("grasp", "snip", "random")}) == 1
    for by in ("grasp", "snip", "random"):
        assert 0.97 * sizes["layers_snip"] < sizes[f"channels_{by}"] <= sizes["layers_snip"]


def test_a_training_shows_its_progress_unless_it_is_timed(tmp_path):
    seen = []
    lab = Lab(Config(out=tmp_path, removed=(2,)), progress=lambda step, loss: seen.append(step))
    variables, steps = lab.variables(jax.random.key(0)), lab.basis.steps // lab.config.epochs
    lab.train(lab.timed_fit, variables, jax.random.key(1), steps)
    assert seen == []
    lab.train(lab.fit, variables, jax.random.key(1), steps)
    assert seen[-1] == steps


@pytest.mark.slow
def test_the_run_resumes_and_reports(tmp_path, capsys):
    command = [*FLAGS, "--out", str(tmp_path)]
    assert layers.main(command) == 0
    assert "time of training" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines]
    assert [(r["curve"], r["seed"]) for r in records] == [(m, s) for m in ("dense", *METHODS) for s in (0, 1)]
    assert ["time_training" in r for r in records] == [False, False, True, False, True, False]
    for name in ("report.html", "table.txt", "results.json", "accuracy.png", "claims.json"):
        assert (folder / name).stat().st_size > 0
    (folder / "metrics.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    assert layers.main(command) == 0
    resumed = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert resumed[:3] == lines[:3]
    assert [json.loads(line)["test_accuracy"] for line in resumed] == [r["test_accuracy"] for r in records]


def test_the_table_has_the_times_of_each_choice_and_those_of_its_size_where_it_has_none(tmp_path):
    config = Config(out=tmp_path, removed=(4,), seeds=1, methods=("layers_snip", "channels_snip", "channels_random"))
    config.folder().mkdir()
    times = {"layers_snip": 0.4, "channels_snip": 0.7}
    records = [
        SweepRecord(
            {"test_accuracy": 0.9, "macs": 0.5 + (method == "dense") / 2, "params": 0.5}
            | ({"time_training": times[method]} if method in times else {}),
            method,
            count,
            seed,
        )
        for method, count, seed in config.cells()
    ]
    report(config, records)
    points = json.loads((config.folder() / "results.json").read_text())["points"]
    timed = {point["choice"]: point["times"].get("time of training") for point in points}
    assert timed == {
        "dense": None,
        "layers_snip": 0.4,
        "channels_snip": 0.7,
        "channels_random": timed["channels_random"],
    }
    assert timed["channels_random"] in times.values()


def test_claims():
    accuracy = {"dense": 0.9, "layers_grasp": 0.895, "layers_snip": 0.8, "layers_random": 0.85}
    accuracy |= {"channels_grasp": 0.88, "channels_snip": 0.85}
    records = [
        SweepRecord(
            {"test_accuracy": value + 1e-4 * seed * np.sign(value - 0.87)},
            method,
            0.0 if method == "dense" else 4.0,
            seed,
        )
        for method, value in accuracy.items()
        for seed in range(3)
    ]
    judged = claims(Config(removed=(4,)), records)
    assert [claim.verdict for claim in judged] == [HOLDS] * 3 + [FAILS] * 3
    assert [round(claim.value, 1) for claim in judged] == [-0.5, 1.5, 4.5, -10.0, -5.0, -5.0]


@pytest.mark.parametrize(
    "flags",
    [
        *(["--removed", value] for value in ("0", "2,2", "3")),
        *(["--methods", "layers_snip,layers_snip"], ["--seeds", "0"]),
    ],
)
def test_bad_flags(flags, tmp_path, capsys):
    check_is_refused(layers.main, flags, tmp_path, capsys)
