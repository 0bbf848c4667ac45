"""Large kernels in branches: networks and masks of the methods, a run that resumes, and the claims."""

import json

import jax
import optax
import pytest

import jaxticket as jt
from experiments import slak
from experiments.claims.record import FAILS, HOLDS, UNDECIDED
from experiments.runs.records import SweepRecord
from experiments.studies.slak.config import Config
from experiments.studies.slak.report import claims
from experiments.studies.slak.sweep import Lab, make_plan
from experiments.training import problems
from tests.cheap import cheap, check_is_refused  # noqa: F401  # cheap: by every test

SMALL = {"dims": (4,), "kernels": (5,), "depths": (1,), "epochs": 1, "probed": 20, "warmup": 0}
FLAGS = ["--dims", "4", "--kernels", "5", "--depths", "1", "--epochs", "1", "--probed", "20", "--seeds", "1"]
FLAGS += ["--rounds", "1", "--methods", "full,slak", "--short", "3", "--warmup", "0"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, cheap):  # noqa: F811  # first the small problem
    return Lab(Config(out=tmp_path_factory.mktemp("runs"), **SMALL))


def test_kernels_of_each_method(lab):
    shapes = {}
    for method in lab.config.methods:
        params, _ = jax.eval_shape(lab.network(method).init, jax.random.key(0))
        mixer = params["stage1"]["block1"]["mixer"]
        shapes[method] = [mixer[name]["conv"]["kernel"].shape[:2] for name in sorted(mixer)]
    assert shapes["slak"] == shapes["fixed"] == shapes["decomposed"] == [(3, 3), (5, 3), (3, 5)]
    assert shapes["full"] == [(5, 5), (3, 3)]
    assert shapes["small"] == [(7, 7)]


def test_fixed_masks_stay_and_others_regrow(lab):
    model = lab.network("slak")
    basis = problems.basis(lab.config, lab.dataset, model)
    params, state = basis.init(jax.random.key(0))
    for regrows in (True, False):
        plan = make_plan(lab, basis, params, state, regrows=regrows)
        assert (plan.when is not None) == regrows
        masked, opt_state = jt.init(jt.sparsify(optax.identity(), plan, key=jax.random.key(1)), params)
        kept = jt.masks.summary(masked, jt.mask_of(opt_state)).maskable
        assert kept.density == pytest.approx(lab.config.density, abs=0.02)


@pytest.mark.slow
def test_the_run_resumes_and_reports(tmp_path, capsys):
    command = [*FLAGS, "--out", str(tmp_path)]
    assert slak.main(command) == 0
    assert "time of merged" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["curve"] for line in lines] == ["full", "slak"]
    (folder / "metrics.jsonl").write_text(lines[0] + lines[1][:20])
    assert slak.main(command) == 0
    resumed = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert resumed[0] == lines[0]
    assert json.loads(resumed[1])["test_accuracy"] == json.loads(lines[1])["test_accuracy"]


def test_claims():
    accuracies = {"full": 0.95, "slak": 0.96, "fixed": 0.955, "decomposed": 0.93, "small": 0.96}
    records = [
        SweepRecord({"test_accuracy": accuracy + 1e-4 * seed * len(method)}, method, 0.0, seed)
        for method, accuracy in accuracies.items()
        for seed in range(3)
    ]
    assert [claim.verdict for claim in claims(Config(), records)] == [HOLDS, UNDECIDED, FAILS, HOLDS]


@pytest.mark.parametrize(
    "flags",
    [
        *(["--kernels", "5,3"], ["--depths", "0"], ["--density", "0"], ["--drop-fraction", "0.001"]),
        *(["--wider", "0.5"], ["--seeds", "0"], ["--methods", "slak,slak"]),
    ],
)
def test_bad_flags(flags, tmp_path, capsys):
    check_is_refused(slak.main, flags, tmp_path, capsys)
