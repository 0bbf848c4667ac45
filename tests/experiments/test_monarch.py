"""Monarch layers: each way to train them, the sizes of the controls, and a run that resumes."""

import json

import jax
import numpy as np
import pytest

from experiments import monarch
from experiments.claims.record import FAILS, HOLDS
from experiments.runs.records import SweepRecord
from experiments.studies.monarch.config import Config
from experiments.studies.monarch.report import claims
from experiments.studies.monarch.sweep import Lab, make_dense, make_trained
from jaxticket.execution import Monarch
from tests.cheap import cheap, check_is_refused  # noqa: F401  # cheap: by every test

METHODS = ("dense_to_sparse", "narrow")
FLAGS = [
    "--epochs",
    "2",
    "--width",
    "20",
    "--blocks",
    "2",
    "--seeds",
    "2",
    "--methods",
    ",".join(METHODS),
    "--rounds",
    "1",
]


def size(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.fixture(scope="module")
def lab(tmp_path_factory, cheap):  # noqa: F811  # first the small problem
    return Lab(Config(out=tmp_path_factory.mktemp("runs"), epochs=2, blocks=(2,)))


def test_dense_kernels_have_the_same_outputs(lab):
    params = lab.structured(2, jax.random.key(0))
    assert isinstance(params["hidden1"]["kernel"], Monarch)
    assert isinstance(params["output"]["kernel"], jax.Array)
    x = lab.basis.dataset.train.x[:5]
    packed, dense = (lab.basis.model.apply(p, None, x, train=False, key=None)[0] for p in (params, make_dense(params)))
    np.testing.assert_allclose(packed, dense, rtol=1e-3, atol=1e-4)


def test_fine_tuning_begins_at_the_projection(lab):
    trained = lab.dense(0)
    projected = lab.structured(2, jax.random.key(0), trained)
    drawn = lab.structured(2, jax.random.key(0))
    away = lambda params: np.linalg.norm(make_dense(params)["hidden1"]["kernel"] - trained["hidden1"]["kernel"])
    assert away(projected) < 0.9 * np.linalg.norm(trained["hidden1"]["kernel"]) < away(drawn)
    np.testing.assert_array_equal(projected["hidden1"]["bias"], trained["hidden1"]["bias"])
    np.testing.assert_array_equal(projected["output"]["kernel"], trained["output"]["kernel"])


def test_sizes(lab):
    whole, structured = size(lab.basis.init(jax.random.key(0))[0]), size(lab.structured(2, jax.random.key(0)))
    sizes = {method: size(make_trained(lab, method, 2, 0)) for method in ("dense", *Config().methods)}
    assert sizes["dense"] == sizes["reverse"] == whole > structured
    assert sizes["monarch"] == sizes["dense_to_sparse"] == sizes["unprojected"] == structured
    assert 0.8 * structured < sizes["narrow"] <= structured


def test_a_training_shows_its_progress(tmp_path):
    seen = []
    lab = Lab(Config(out=tmp_path, epochs=1, width=20), progress=lambda step, loss: seen.append(step))
    lab.dense(0)
    assert seen[-1] == lab.basis.steps


@pytest.mark.slow
def test_the_run_resumes_and_reports(tmp_path, capsys):
    command = [*FLAGS, "--out", str(tmp_path)]
    assert monarch.main(command) == 0
    assert "time of gradient" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines]
    assert [(r["curve"], r["seed"]) for r in records] == [(m, s) for m in ("dense", *METHODS) for s in (0, 1)]
    assert [r["curve"] for r in records if "time_forward" in r] == ["narrow"]
    for name in ("report.html", "table.txt", "results.json", "accuracy.png", "claims.json"):
        assert (folder / name).stat().st_size > 0
    (folder / "metrics.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    assert monarch.main(command) == 0
    resumed = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert resumed[:3] == lines[:3]
    assert [json.loads(line)["test_accuracy"] for line in resumed] == [r["test_accuracy"] for r in records]


def test_claims():
    accuracies = {"dense": 0.9, "monarch": 0.895, "dense_to_sparse": 0.85, "unprojected": 0.7, "reverse": 0.91}
    accuracies |= {"narrow": 0.92}
    records = [
        SweepRecord({"test_accuracy": accuracy + 1e-4 * seed * len(method)}, method, 5.0 * (method != "dense"), seed)
        for method, accuracy in accuracies.items()
        for seed in range(3)
    ]
    judged = claims(Config(blocks=(5,)), records)
    assert [claim.verdict for claim in judged] == [HOLDS, FAILS, HOLDS, HOLDS, FAILS]
    assert [round(claim.value, 0) for claim in judged] == [0, -5, 15, 1, -2]


@pytest.mark.parametrize(
    "flags",
    [
        *(["--blocks", value] for value in ("0", "2,2")),
        *(["--methods", "narrow,narrow"], ["--seeds", "0"], ["--tuned", "1"], ["--sparse", "0"]),
    ],
)
def test_bad_flags(flags, tmp_path, capsys):
    check_is_refused(monarch.main, flags, tmp_path, capsys)
