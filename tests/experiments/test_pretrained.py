"""Pretrained networks made smaller, on small networks in their places: what goes, what is reported, what resumes."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import pretrained
from experiments.claims.record import FAILS, HOLDS
from experiments.runs.records import SweepRecord
from experiments.studies.pretrained import networks
from experiments.studies.pretrained.choices import choose
from experiments.studies.pretrained.claims import claims
from experiments.studies.pretrained.config import Config
from experiments.studies.pretrained.networks import rank_correlation, same_class, without_layers
from experiments.training.timing import time_ratio
from jaxticket import data, models, structure
from jaxticket.errors import InputError
from jaxticket.models import _efficientnet_lite
from tests.cheap import cheap  # noqa: F401  # compiles quickly, for every test here
from tests.encoder import Small

CHOICES = ["group_magnitude", "random", pytest.param("obspa", marks=pytest.mark.slow)]  # which compiles for long
SENTENCES = {"network": "minilm", "sentences": 12, "calibration": 16, "heads": 0.5, "seeds": 2, "rounds": 1}
IMAGES = {"network": "efficientnet_lite0", "images": 6, "calibration": 8, "removed": (0.3,), "seeds": 2, "rounds": 1}


@pytest.fixture
def encoder(monkeypatch):
    model = models.bert(vocabulary=20, context=8, layers=3, heads=2, width=16)
    small = Small(model, model.init(jax.random.key(0))[0], None)
    monkeypatch.setattr(models, "minilm", lambda folder: small)
    monkeypatch.setattr("experiments.runs.command_line.require_extras", lambda *_: None)


@pytest.fixture
def convolutions(monkeypatch, tmp_path):
    """EfficientNet-Lite0 with its first two stages, three blocks, only."""
    stages = {name: _efficientnet_lite._STAGES[name] for name in ("stage1", "stage2")}
    monkeypatch.setattr(_efficientnet_lite, "_STAGES", stages)
    model = models.efficientnet_lite0(classes=5, width=8)
    monkeypatch.setattr(models, "efficientnet_lite0", lambda: model)
    monkeypatch.setattr(models, "load_efficientnet_lite0", lambda path: model.init(jax.random.key(0)))
    monkeypatch.setattr(networks, "_SIDE", 32)
    draw = lambda file, part, rows: (np.random.default_rng(len(part)).integers(0, 256, (50_000, 8, 8, 3))[rows], None)
    monkeypatch.setattr(data, "read_jpegs", draw)
    monkeypatch.setattr("experiments.runs.command_line.require_extras", lambda *_: None)
    return Config(weights=tmp_path / "weights.npz", data_dir=tmp_path, **IMAGES)


def widths(network, smaller):
    """The channels that each group keeps, read from the shapes that are left."""
    names = [leaf.path for leaf in network.groups.leaves]
    shapes = dict(zip(names, map(np.shape, jax.tree.leaves(smaller.variables)), strict=True))
    members = {group.name: group.members[0] for group in network.groups}
    return {name: shapes[m.path][m.axis] // len(m.positions[0]) for name, m in members.items()}


@pytest.mark.parametrize("choice", CHOICES)
def test_heads_and_hidden_channels_go(encoder, choice):
    network = networks.load(Config(**SENTENCES))
    smaller = choose(network, choice, 0.5, seed=0)
    for name, width in widths(network, smaller).items():
        whole = network.groups[name].width
        assert width == (whole if name.endswith("kernel:2") else whole // 2), name
    assert 0.4 < smaller.macs < 0.7
    outputs = network.outputs(smaller.variables, network.tested)
    assert outputs.shape == (12, 16)
    assert np.isfinite(outputs).all()


def test_whole_layers_go(encoder):
    network = networks.load(Config(**SENTENCES))
    channels = choose(network, "random", 0.5, seed=0)
    best, last = (choose(network, choice, 0.5, seed=0) for choice in ("layers", "last_layers"))
    for smaller in (best, last):
        assert len(smaller.variables["blocks"]) == 2
        assert channels.macs <= smaller.macs == pytest.approx(2 / 3)
    np.testing.assert_array_equal(
        last.variables["blocks"]["block2"]["norm1"]["scale"], network.variables["blocks"]["block2"]["norm1"]["scale"]
    )
    # The best are those that calibration spares.
    batches = network.calibration(0)
    dense = network.outputs(network.variables, batches)
    alike = {
        gone: network.likeness(dense, network.outputs(params, batches))
        for gone, params in without_layers(network.variables, 1).items()
    }
    assert network.likeness(dense, network.outputs(best.variables, batches)) == max(alike.values())


def test_calibration_sees_no_tested_example(encoder):
    network = networks.load(Config(**SENTENCES))
    rows = lambda batches: {tuple(row) for batch in batches for row in np.asarray(batch).tolist()}
    tested, first, second = rows(network.tested), rows(network.calibration(0)), rows(network.calibration(1))
    assert len(tested) == len(first) == 12
    assert not tested & (first | second)
    assert first != second


def test_a_single_sentence_calibrates(encoder):
    (batch,) = networks.load(Config(**{**SENTENCES, "calibration": 1})).calibration(0)
    assert len(batch) == 1


@pytest.mark.parametrize("choice", CHOICES)
def test_channels_of_convolutions_go(convolutions, choice):
    network = networks.load(convolutions)
    smaller = choose(network, choice, 0.3, seed=0)
    assert 0.5 < smaller.macs <= 0.7
    assert all(width >= 1 for width in widths(network, smaller).values())
    logits = network.outputs(smaller.variables, network.tested)
    assert logits.shape == (6, 5)
    assert np.isfinite(logits).all()


def test_no_more_images_calibrate_than_there_are(convolutions):
    with pytest.raises(InputError, match="--calibration is 50001, but must be at most the 50000 training images"):
        networks.load(dataclasses.replace(convolutions, calibration=50_001))


def test_batch_statistics_of_calibration(convolutions):
    """The last point is the dense network with the statistics of the images that OBSPA sees."""
    assert convolutions.cells()[-1] == ("dense_recalibrated", 0.0, 0)
    network = networks.load(convolutions)
    restated = choose(network, "dense_recalibrated", 0.0, seed=0)
    assert (restated.macs, restated.params) == (1, 1)
    np.testing.assert_array_equal(
        restated.variables["params"]["output"]["kernel"], network.variables["params"]["output"]["kernel"]
    )
    (batch,) = network.calibration(0)
    kernel = network.variables["params"]["stem"]["conv"]["kernel"]
    first = jax.lax.conv_general_dilated(batch, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    norm = restated.variables["state"]["stem"]["norm"]
    np.testing.assert_allclose(norm["mean"], first.mean((0, 1, 2)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(norm["var"], first.var((0, 1, 2)), rtol=1e-3)


@pytest.mark.slow
def test_obspa_changes_the_weights_that_stay(convolutions):
    network = networks.load(convolutions)
    smaller = choose(network, "obspa", 0.3, seed=0)
    kept = structure.choose(
        structure.group_magnitude(network.variables, network.groups), network.groups, network.steps(0.3)[0][1]
    )
    unrepaired = structure.shrink(network.variables, kept, network.groups)
    shapes = [jax.tree.map(np.shape, variables) for variables in (unrepaired, smaller.variables)]
    assert shapes[0] == shapes[1], "the same part of every group"
    other = choose(network, "obspa", 0.3, seed=1)
    kernel = lambda choice: choice.variables["params"]["output"]["kernel"]
    assert not np.array_equal(kernel(smaller), kernel(other)), "other images, another repair"


@pytest.mark.slow
def test_the_run_resumes_and_reports(encoder, tmp_path, capsys):
    flags = [f"--{name}={value}" for name, value in SENTENCES.items()]
    command = [*flags, "--out", str(tmp_path)]
    assert pretrained.main(command) == 0
    assert "rank correlation" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines]
    assert [(r["curve"], r["seed"]) for r in records] == [
        *(("obspa", 0), ("obspa", 1), ("group_magnitude", 0)),
        *(("random", 0), ("random", 1), ("layers", 0), ("last_layers", 0)),
    ]
    timed = [r["curve"] for r in records if "time_1" in r]
    assert timed == ["obspa", "layers"], "the others have the sizes of these"
    for name in ("report.html", "table.txt", "results.json", "accuracy.png", "claims.json"):
        assert (folder / name).stat().st_size > 0
    (folder / "metrics.jsonl").write_text("".join(lines[:5]) + lines[5][:20])
    assert pretrained.main([*command, "--dry-run"]) == 0
    assert "7, of which 5 are there" in capsys.readouterr().out
    assert pretrained.main(command) == 0
    resumed = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert resumed[:5] == lines[:5]
    assert [json.loads(line)["alike"] for line in resumed] == [r["alike"] for r in records]


def test_other_weights_have_another_folder(tmp_path):
    """Points of two networks are not mixed in a table."""
    folders = {Config(weights=weights, out=tmp_path).folder() for weights in (None, tmp_path / "a", tmp_path / "b")}
    assert len(folders) == 3
    assert Config(out=tmp_path).folder().name == "pretrained-44136fa355", "the folder of the evidence"


def test_likeness():
    logits = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [1.0, 3.0]])
    assert same_class(logits, 2 * logits + 1) == 1
    assert same_class(logits, logits[:, ::-1]) == 0
    angles = np.array([0.0, 0.1, 0.5, 1.3])
    points = lambda angles: np.stack([np.cos(angles), np.sin(angles)], 1)
    assert rank_correlation(points(angles), points(0.9 * angles)) == pytest.approx(1)
    # The six distances .1 .5 1.3 .4 1.2 .8 rank 0 2 5 1 4 3, and .4 .25 1.3 .15 .9 1.05 rank 2 1 5 0 3 4.
    moved = points(np.array([0.0, 0.4, 0.25, 1.3]))
    assert rank_correlation(points(angles), moved) == pytest.approx(1 - 6 * 8 / (6 * 35))


def test_the_time_is_that_of_the_smaller_network():
    run = lambda steps, x: jax.lax.fori_loop(0, steps, lambda _, x: x @ x / 100, x)
    ratio, seconds = time_ratio((run, 300), (run, 3), np.ones((100, 100), np.float32), rounds=5)
    assert ratio < 0.5
    assert seconds > 0


def test_claims():
    likeness = {"obspa": 0.9, "group_magnitude": 0.8, "random": 0.7, "layers": 0.95, "last_layers": 0.5}
    records = [
        SweepRecord({"alike": value + 1e-3 * seed, "macs": 0.7 if "layers" in choice else 0.6}, choice, 0.5, seed)
        for choice, value in likeness.items()
        for seed in range(3 if choice in ("obspa", "random") else 1)
    ]
    verdicts = {claim.claim.split(" better than ")[1]: claim for claim in claims(Config(), records)}
    assert [claim.verdict for claim in verdicts.values()] == [HOLDS, HOLDS, FAILS, HOLDS]
    assert verdicts["random channels."].value == pytest.approx(20)
    assert "removing the last layers, which save fewer multiply-adds." in verdicts
    for macs, saved in ((0.6, "as many"), (0.5, "more")):
        moved = [
            r if "layers" not in r.curve else SweepRecord({**r.metrics, "macs": macs}, r.curve, 0.5, 0) for r in records
        ]
        assert sum(f"which save {saved} multiply-adds" in claim.claim for claim in claims(Config(), moved)) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--removed", "0.2,1"], "between 0 and 1"),
        (["--removed", "0.2,0.2"], "different values"),
        (["--heads", "1"], "between 0 and 1"),
        (["--hidden", "0"], "between 0 and 1"),
        (["--seeds", "0"], "at least 1"),
        (["--sentences", "100000"], "but there are"),
        (["--text", "absent.txt"], "cannot be read"),
        (["--network", "efficientnet_lite0"], "needs --weights"),
        (["--network", "efficientnet_lite0", "--weights", "absent.npz", "--data-dir", "."], "absent.npz is not a file"),
    ],
)
def test_bad_flags_are_told_in_one_line(encoder, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit) as end:
        pretrained.main([*flags, "--out", str(tmp_path / "runs")])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()
