"""Widths within a budget: every method keeps as many multiply-adds, networks are those found, and a run resumes."""

import json

import jax
import numpy as np
import pytest

from experiments import widths
from experiments.claims.record import FAILS, HOLDS
from experiments.runs.records import SweepRecord
from experiments.studies.widths.config import BUDGET, Config
from experiments.studies.widths.lab import Lab
from experiments.studies.widths.methods import METHODS
from experiments.studies.widths.report import claims
from jaxticket.methods.channels import tas
from tests.cheap import cheap, check_is_refused  # noqa: F401  # cheap: by every test

SMALL = {"width": 8, "blocks": 2}
FLAGS = ["--width", "8", "--blocks", "2", "--epochs", "1", "--search-epochs", "1", "--seeds", "2", "--limit", "120"]
FLAGS += ["--batch-size", "60"]


def test_every_method_keeps_the_same_multiply_adds_without_a_search(tmp_path):
    lab = Lab(Config(out=tmp_path, **SMALL))
    whole = lab.network(lab.whole)
    assert lab.traced(whole).macs() == lab.groups.macs()
    for name in ("uniform", "random", "precrop"):
        smaller = METHODS[name](lab, 0.5, jax.random.key(1))
        kept = lab.traced(smaller.model).macs() / lab.groups.macs()
        assert abs(kept / 0.5 - 1) <= BUDGET, name
        assert all(
            1 <= width <= group.width for width, group in zip(smaller.numbers["widths"], lab.groups, strict=True)
        )
    uniform = METHODS["uniform"](lab, 0.5, jax.random.key(1)).numbers["widths"]
    parts = np.array(uniform) / lab.groups.widths()
    assert parts.max() - parts.min() <= 1 / 8  # a channel of the narrowest


def test_the_network_of_a_search_is_the_one_it_returns(tmp_path, monkeypatch):
    lab = Lab(Config(out=tmp_path, **SMALL))
    found = (8, 4, 5, 6, 7, *range(8, 12), *range(20, 24))
    monkeypatch.setattr(lab, "searches", lambda fraction: lambda key: tas.Outcome(found, (2, 1, 1), 10, 10, None))
    params, _ = jax.eval_shape(METHODS["tas"](lab, 0.5, jax.random.key(0)).model.init, jax.random.key(0))
    sizes = {f"stage{s}": sorted(params[f"stage{s}"]) for s in (1, 2, 3)}
    assert sizes == {"stage1": ["block1", "block2"], "stage2": ["block1"], "stage3": ["block1"]}
    assert params["stage1"]["block2"]["layer1"]["conv"]["kernel"].shape == (3, 3, 8, 6)
    assert params["stage3"]["block1"]["layer2"]["conv"]["kernel"].shape == (3, 3, 20, 21)
    assert params["output"]["kernel"].shape == (21, 10)


@pytest.mark.slow
def test_the_run_resumes_and_reports(tmp_path, capsys):
    command = [*FLAGS, "--out", str(tmp_path)]
    assert widths.main(command) == 0
    assert "multiply-adds (%)" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines]
    assert [(r["curve"], r["seed"]) for r in records] == [(m, s) for s in (0, 1) for m in ("dense", *Config().methods)]
    assert all(abs(r["macs"] / 0.5 - 1) <= BUDGET for r in records if r["curve"] != "dense")
    for name in ("report.html", "table.txt", "results.json", "accuracy.png", "claims.json"):
        assert (folder / name).stat().st_size > 0
    (folder / "metrics.jsonl").write_text("".join(lines[:6]) + lines[6][:20])
    assert widths.main(command) == 0
    resumed = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert resumed[:6] == lines[:6]
    assert [json.loads(line)["test_accuracy"] for line in resumed] == [r["test_accuracy"] for r in records]


def test_claims():
    accuracy = {"dense": 0.9, "uniform": 0.85, "random": 0.8, "precrop": 0.8, "tas": 0.87}
    macs = {"precrop": 0.499, "tas": 0.48}
    records = [
        SweepRecord(
            {"test_accuracy": value + 1e-4 * seed, "macs": macs.get(method, 0.5) + 1e-5 * seed},
            method,
            0.0 if method == "dense" else 0.5,
            seed,
        )
        for method, value in accuracy.items()
        for seed in range(3)
    ]
    judged = {claim.id: claim.verdict for claim in claims(Config(methods=("uniform", "precrop", "tas")), records)}
    assert list(judged.values()) == [HOLDS, FAILS, FAILS, HOLDS]


@pytest.mark.parametrize(
    "flags",
    [
        *(["--fractions", value] for value in ("0", "1", "0.5,0.5")),
        *(
            ["--methods", "tas,tas"],
            ["--methods", "tas", "--model", "supernet"],
            ["--seeds", "0"],
            ["--width", "3"],
            ["--blocks", "1"],
            ["--search-epochs", "0"],
        ),
        *(["--teacher-weight", "2"], ["--temperature", "0"], ["--logit-rate", "0"]),
        ["--augment", "crop-and-flip"],
    ],
)
def test_bad_flags(flags, tmp_path, capsys):
    check_is_refused(widths.main, flags, tmp_path, capsys)
