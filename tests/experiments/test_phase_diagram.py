"""The phase diagram: one program for all columns, signs as published, and a killed run ends in the same numbers.

Whole runs are in the slow tier: compiling, plots and checkpoints take them seconds each.
"""

import json
import pathlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import phase_diagram
from experiments.studies.phase_diagram import lab
from experiments.training import problems
from jaxticket import tickets
from jaxticket.errors import CheckpointError, InputError
from jaxticket.methods.analysis import three_regimes
from tests.cheap import cheap  # noqa: F401  # used by every test here

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "loops.json").read_text())["mode_connectivity"]
SMALL = ["--epochs", "1", "--batch-size", "20", "--densities", "0.5,0.1", "--seeds", "2", "--placement", "map"]
traced = []  # what was traced, and where columns began


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    loss, column = problems.cross_entropy, phase_diagram.column
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(problems, "cross_entropy", lambda *args: (traced.append("loss"), loss(*args))[1])
        patched.setattr(phase_diagram, "column", lambda *args: (traced.append("column"), column(*args))[1])
        assert phase_diagram.main([*SMALL, "--temperatures", "1,2", "--out", str(out)]) == 0
    (run,) = out.iterdir()
    return run


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_mode_connectivity_golden(case):
    errors = np.array(case["errors"], np.float32)
    assert float(three_regimes.mode_connectivity(errors)) == pytest.approx(case["mc"], abs=1e-6)
    both = jax.jit(three_regimes.mode_connectivity)(jnp.stack([errors, errors[::-1]]))
    np.testing.assert_allclose(both, [case["mc"]] * 2, atol=1e-6)  # either way along the path
    with pytest.raises(InputError, match="both ends of a path"):
        three_regimes.mode_connectivity(errors[:2])


def test_regimes():
    found = [three_regimes.regime(error, mc) for error in (0.2, 0.01) for mc in (-0.1, -0.01, 0.1)]
    assert [kind and kind.value for kind in found] == ["I", None, None, "II-A", "II-B", "II-B"]
    with pytest.raises(InputError, match="tolerance=-1"):
        three_regimes.regime(0.0, 0.0, tolerance=-1)


@pytest.mark.slow
def test_every_cell_is_recorded(finished):
    found = records(finished)
    assert [(r["temperature"], r["density"], r["seed"]) for r in found] == [
        (t, d, s) for t in (1, 2) for d in (0.5, 0.1) for s in (0, 1)
    ]
    for record in found:
        assert record["test_accuracy"] > 0.2  # twice what guessing gives
        assert record["train_error"] < 0.8
        assert 0 < record["cka"] <= 1 + 1e-6
        assert abs(record["mode_connectivity"]) <= 0.5
    assert len({record["cka"] for record in found}) == 8
    assert not (finished / "checkpoint").exists()


@pytest.mark.slow
def test_all_columns_are_one_program(finished):
    assert traced[0] == traced[-1] == "column"  # the first traced all that the second ran
    assert "loss" in traced


@pytest.mark.slow
def test_masks_keep_the_largest_of_each_layer():
    params = {"a": {"kernel": jax.random.normal(jax.random.key(0), (3, 20, 10)), "bias": jnp.ones((3, 10))}}
    found = lab.masks(params, jnp.array([0.5, 0.1]))
    assert found["a"]["bias"] is None
    for d, kept in enumerate((100, 20)):
        for s in range(3):
            size, mask = jnp.abs(params["a"]["kernel"][s]), found["a"]["kernel"][d, s]
            assert int(mask.sum()) == kept
            assert size[mask].min() > size[~mask].max()


@pytest.mark.slow
def test_two_networks_are_retrained_from_each_pruned_one(finished):
    config = lab.Config(
        epochs=1,
        densities=(0.5, 0.1),
        seeds=2,
        temperatures=(1, 2),
        placement="map",
        out=finished.parent,
        batch_size=20,
    )
    shared = lab.Lab(config)
    ends = shared.retrained(shared.dense(1))
    for a, b in zip(ends[::2], ends[1::2], strict=True):
        mask = a.mask["hidden1"]["kernel"]
        assert jnp.array_equal(mask, b.mask["hidden1"]["kernel"])
        assert not jnp.array_equal(a.params["hidden1"]["kernel"], b.params["hidden1"]["kernel"])
        assert not np.any(np.asarray(a.params["hidden1"]["kernel"])[~np.asarray(mask)])
    same = shared.measure(ends[0], ends[0])
    assert same["mode_connectivity"] == 0
    assert same["cka"] == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_more_temperatures_extend_a_run_that_ends_in_the_same_numbers(finished, tmp_path):
    arguments = [*SMALL, "--out", str(tmp_path)]
    assert phase_diagram.main([*arguments, "--temperatures", "2"]) == 0
    (run,) = tmp_path.iterdir()
    written = {path: path.stat().st_mtime_ns for path in run.glob("columns/*")}
    assert len(written) == 1
    assert phase_diagram.main([*arguments, "--temperatures", "1,2"]) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert records(run) == records(finished)


@pytest.mark.slow
def test_a_run_killed_inside_a_column_goes_on(finished, tmp_path, monkeypatch):
    save, steps = tickets.StepCheckpoint.save, []

    def killed(self, origin, ticket, values):
        save(self, origin, ticket, values)
        steps.append(ticket.step)
        raise KeyboardInterrupt

    arguments = [*SMALL, "--temperatures", "1,2", "--checkpoint-seconds", "0", "--out", str(tmp_path)]
    for _ in range(2):  # in the dense training, then in the retraining
        with monkeypatch.context() as patched:
            patched.setattr(tickets.StepCheckpoint, "save", killed)
            with pytest.raises(SystemExit) as end:
                phase_diagram.main(arguments)
        assert end.value.code == 130
    assert phase_diagram.main(arguments) == 0
    assert records(next(tmp_path.iterdir())) == records(finished)


@pytest.mark.slow
def test_the_report(finished):
    table = (finished / "table.txt").read_text()
    for words in ("regime", "test accuracy", "mode connectivity", "linear CKA"):
        assert words in table
    cells = json.loads((finished / "results.json").read_text())
    assert len(cells) == 4
    assert {cell["regime"] for cell in cells} <= {"I", "II-A", "II-B", "–"}
    assert (finished / "heatmaps.png").read_bytes().startswith(b"\x89PNG")
    assert "experiments/phase_diagram.py" in (finished / "report.html").read_text()


@pytest.mark.parametrize("text", ["[{", "1", "[1]", "{}", '[{"density": 0.5}]', '[{"density": 0.5, "seed": 0}]'])
def test_a_damaged_column_is_named(tmp_path, text):
    config = lab.Config(out=tmp_path)
    file = config.folder() / "columns" / f"{config.temperature}_2.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(CheckpointError, match=r"_2.json is damaged .* delete it"):
        phase_diagram.column(SimpleNamespace(config=config), 2)


def test_dry_run(tmp_path, capsys):
    assert phase_diagram.main([*SMALL, "--temperatures", "1,2,4", "--out", str(tmp_path), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "(new)" in printed
    assert "3 temperatures × 2 densities × 2 seeds" in printed
    assert "8 at a time" in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperatures", "0,1"], "--temperatures is (0, 1), but must be at least 1"),
        (["--temperatures", "1,1"], "--temperatures is (1, 1), but must be different values"),
        (["--densities", "1.5"], "--densities is (1.5,), but must be between 0 and 1"),
        (["--temperature", "heat"], "invalid choice"),
    ],
)
def test_bad_flags(arguments, words, capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        phase_diagram.main([*arguments, "--out", str(tmp_path / "runs")])
    message = capsys.readouterr().err
    assert end.value.code == 2
    assert words in message
    assert message.count("\n") == 1
