"""Full and vanished folders, damaged files, NaN, clocks, odd names: each ends in one line, or in the same bits."""

import contextlib
import itertools
import json
import pathlib
import shutil
import subprocess
import time

import jax.numpy as jnp
import pytest

from experiments.reports.progress import Progress, Rows
from jaxticket import tickets
from jaxticket.errors import CheckpointError
from tests.drill import _damage, _runs

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("damage", [_damage.truncate, _damage.flip_a_bit, _damage.half_rename, _damage.empty])
def test_a_damaged_checkpoint_costs_no_more_than_its_steps(broken, unbroken, damage):
    run = broken(_runs.TRAIN)
    process = run.start()
    assert _runs.wait_until(_runs.present(run.out, "checkpoint/state_*1/record.json"), process)
    _runs.kill(process)
    run.fault()
    damage(sorted(run.folder.glob("checkpoint/state_*"))[-1])
    run.fault()
    _, errors = run.ends_as(unbroken(_runs.TRAIN))
    assert "resuming from the state before" in errors


def test_a_damaged_result_is_never_trained_over(broken, unbroken, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(unbroken(_runs.TRAIN), out)
    run = broken(_runs.TRAIN, out)
    (ticket,) = run.folder.glob("cells/**/seed_1")
    _damage.flip_a_bit(ticket)
    error = _runs.one_line_error(run.start())
    assert str(ticket) in error
    assert "differs from what was saved; restore it from a copy or delete the directory" in error
    shutil.rmtree(ticket)
    _runs.finish(run.start())
    differing = _runs.differences(_runs.contents(run.folder), _runs.contents(_runs.folder_in(unbroken(_runs.TRAIN))))
    # One seed alone is another program than two side by side: what it finds may differ in the last bits.
    assert not any("seed_0" in path for path in differing)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB, and how to make it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = lambda *options: subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", folder], check=False, capture_output=True
    )
    if mount("size=3m").returncode:
        pytest.skip("mounting is not allowed")
    yield folder, lambda: mount("remount", "size=200m")
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk(broken, unbroken, small_disk):
    disk, enlarge = small_disk
    run = broken(_runs.TRAIN, disk / "runs")
    error = _runs.one_line_error(run.start())
    assert "cannot be written (No space left on device); make room" in error
    run.fault()
    enlarge()
    run.ends_as(unbroken(_runs.TRAIN))


@pytest.mark.parametrize("name", ["checkpoint", "cells", "metrics.jsonl", "report.html.partial"])
def test_a_file_where_a_folder_must_be_and_a_folder_where_a_file(broken, unbroken, name):
    run = broken(_runs.TRAIN)
    process = run.start()
    assert _runs.wait_until(_runs.present(run.out, "config.json"), process)
    _runs.kill(process)
    obstacle = run.folder / name
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(obstacle) if obstacle.is_dir() else obstacle.unlink()
    obstacle.mkdir() if "." in name else obstacle.write_text("")
    assert str(obstacle).removesuffix(".partial") in _runs.one_line_error(run.start())
    run.fault()
    obstacle.rmdir() if "." in name else obstacle.unlink()
    run.ends_as(unbroken(_runs.TRAIN))


def test_a_folder_that_vanishes(broken, tally):
    run = broken(_runs.TRAIN)
    process = run.start()
    assert _runs.wait_until(_runs.present(run.out, "checkpoint/state_*/record.json"), process)
    shutil.rmtree(run.folder, ignore_errors=True)
    tally.faults += 1
    assert str(run.out) in _runs.one_line_error(process)


def test_nan_stops_names_the_replicate_and_keeps_what_is_good(broken, tally):
    run = broken((*_runs.IMP, "--learning-rate", "1e30"))
    error = _runs.one_line_error(run.start())
    tally.faults += 1
    assert error.startswith("error: replicate 0, level 0, ticket: loss or weights are not finite at step ")
    for state in run.folder.glob("checkpoint/state_*"):
        assert all(jnp.isfinite(leaf).all() for leaf in tickets.load(state).params.values())
    # Skipping does not help where every step is wrong; recording goes on.
    assert "continue with on_nan=record" in _runs.one_line_error(run.start("--on-nan", "skip"))
    _runs.finish(run.start("--on-nan", "record"))


def test_skipped_steps_are_counted_in_each_record(tmp_path):
    for command in (_runs.TRAIN, _runs.IMP):
        out = tmp_path / command[0]
        _runs.finish(_runs.start(command, out, "--on-nan", "skip"))
        assert all(json.loads(line)["skipped_steps"] == 0 for line in _runs.records(out))
        assert json.loads((_runs.folder_in(out) / "config.json").read_text())["on_nan"] == "skip"


def test_names_with_spaces_and_signs_that_a_log_cannot_spell(broken, unbroken, tmp_path):
    run = broken(_runs.TRAIN, tmp_path / "läufe mit leerzeichen 彩票 'x'")
    process = run.start(environment={"PYTHONIOENCODING": "ascii"})
    assert _runs.wait_until(_runs.present(run.out, "checkpoint/state_*/record.json"), process)
    _runs.kill(process)
    run.fault()
    output, _ = _runs.finish(run.start(environment={"PYTHONIOENCODING": "ascii"}))
    assert "?" in output
    run.ends_as(unbroken(_runs.TRAIN))


def test_a_log_has_no_control_characters(unbroken, tmp_path):
    output, errors = _runs.finish(_runs.start(_runs.TRAIN, tmp_path))
    assert not any(ord(sign) < 32 and sign != "\n" for sign in output + errors)
    assert output.startswith("memory: weights ")


def test_clocks_that_jump_change_nothing(tmp_path, monkeypatch, capsys):
    jumps = itertools.cycle([0.0, 4e9, -1e9])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoint = tickets.StepCheckpoint(tmp_path, every=30)
    due = []
    for now[0] in (100.0, 129.0, 130.0):
        due.append(checkpoint.due())
    assert due == [False, False, True]
    rows = Rows(lambda record: record["seed"], 1, str)
    with Progress(3, rows) as progress:
        progress.steps = 20
        for seed in range(3):
            progress.step(10, 0.5)
            now[0] += 60
            progress.step(15, 0.5)
            assert f"step 15/20 in 0:01:00, loss 0.5000  | {100 * seed // 3:3} %" in capsys.readouterr().out
            progress.finished({"seed": seed})
        assert progress._left() == "0:00:00 left"


@pytest.mark.parametrize(("version", "words"), [(0, "version is 0, but must be 1"), (99, "upgrade jaxticket")])
def test_a_ticket_of_another_format_version_is_refused_in_one_line(tmp_path, version, words):
    tickets.save(tmp_path / "t", tickets.Ticket({"w": jnp.ones(2)}, {"w": None}))
    assert tickets.load(tmp_path / "t").params["w"].tolist() == [1.0, 1.0]
    record = tmp_path / "t" / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "version": version}))
    with pytest.raises(CheckpointError, match=words):
        tickets.load(tmp_path / "t")


def test_each_start_is_noted_with_what_it_ran_on_and_no_secrets(tmp_path):
    out = tmp_path / "runs"
    for _ in range(2):
        _runs.finish(_runs.start(_runs.TRAIN, out, environment={"API_TOKEN": "hush", "JAX_ENABLE_X64": "0"}))
    text = (_runs.folder_in(out) / "environment.json").read_text()
    starts = json.loads(text)
    assert len(starts) == 2
    assert starts[1]["variables"]["JAX_ENABLE_X64"] == "0"
    assert starts[0]["command"].startswith("train.py --method rigl ")
    assert starts[0]["devices"].endswith("(cpu)")
    assert "hush" not in text
    assert pathlib.Path.home().name not in json.dumps([start["variables"] for start in starts])


def test_a_profile_of_some_steps_and_the_course_of_a_training(tmp_path):
    _runs.finish(_runs.start(_runs.TRAIN, tmp_path, "--profile", "--tensorboard"))
    run = _runs.folder_in(tmp_path)
    assert list(run.glob("profile/**/perfetto_trace.json.gz"))
    assert list(run.glob("profile/**/*.xplane.pb"))
    assert len(list(run.glob("tensorboard/seed_*/*"))) == 2
