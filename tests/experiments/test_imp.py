"""The main job: it is extended, and errs in one line; tests/drill kills it."""

import errno
import html
import importlib.util
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys

import pytest

from experiments import compare_runs, imp
from experiments.reports import searches, tensorboard
from experiments.runs import command_line, folder
from experiments.runs.records import LevelRecord
from experiments.studies.imp.config import Config, of_run
from experiments.training import problems
from jaxticket.errors import CheckpointError

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "imp.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    arguments = ["--epochs", "1", "--scope", "layer", "--out", str(out)]
    assert imp.main([*arguments, "--levels", "2", "--replicates", "1"]) == 0
    return arguments, out


@pytest.mark.slow
def test_levels_and_replicates_extend_the_same_run(finished, capsys):
    arguments, out = finished
    (run,) = out.iterdir()
    first = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert imp.main([*arguments, "--levels", "3", "--replicates", "2"]) == 0
    assert list(out.iterdir()) == [run]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(record in records for record in first)
    order = [(record["level"], record["branch"], record["replicate"]) for record in records]
    assert order == [(l, branch, r) for l in range(3) for branch in imp.BRANCHES for r in range(2)]
    records = [record for record in records if record["replicate"] == 0]
    # By layer, and the output layer at half the rate.
    kept = round(235_200 * 0.64) + round(30_000 * 0.64) + round(1000 * 0.81)
    assert records[6]["density"] == records[7]["density"] == records[8]["density"] == kept / 266_200
    assert records[0]["test_accuracy"] == records[2]["test_accuracy"]  # dense, a random ticket is the ticket
    assert records[0]["test_accuracy"] > 0.8
    output = capsys.readouterr().out
    assert "replicate 2/2  level  2  density 0.6" in output
    assert (run / "table.txt").read_text() in output
    assert (run / "accuracy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_replicates_side_by_side_find_what_each_finds_alone(finished, tmp_path):
    arguments, out = finished
    (alone,) = out.iterdir()
    assert imp.main([*arguments[:-1], str(tmp_path), "--levels", "2", "--replicates", "2"]) == 0
    (both,) = tmp_path.iterdir()
    records = [json.loads(line) for line in (both / "metrics.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in (alone / "metrics.jsonl").read_text().splitlines()]
    same = lambda record: record["replicate"] == 0 and record["level"] < 2
    assert [r for r in records if same(r)] == [r for r in expected if same(r)]


def test_a_machine_that_gives_notice_ends_it_without_an_error(capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end, command_line.one_line_errors():
        os.kill(os.getpid(), signal.SIGTERM)
    assert not end.value.code
    assert "the same command resumes from here" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 2), (errno.ECONNREFUSED, None)])
def test_what_disks_do_is_said_in_one_line_and_what_else_happens_is_not_hidden(number, code, capsys):
    with pytest.raises((SystemExit, OSError)) as end, command_line.one_line_errors():
        raise OSError(number, os.strerror(number), "runs/accuracy.png")
    assert getattr(end.value, "code", None) == code
    assert ("error: runs/accuracy.png: No space left on device; " in capsys.readouterr().err) == (code == 2)


def test_only_one_process_runs_it(finished, capsys):
    arguments, out = finished
    (run,) = out.iterdir()
    with folder.lock(run):
        assert (
            one_line_error(arguments, capsys) == f"error: {run} is in use by another process; wait for it, or end it\n"
        )


def test_a_run_of_another_configuration_is_refused(finished, capsys, tmp_path):
    _, out = finished
    (run,) = out.iterdir()
    impostor = tmp_path / Config(epochs=2, scope="layer").folder().name
    impostor.mkdir()
    (impostor / "config.json").write_text((run / "config.json").read_text())
    message = one_line_error(["--epochs", "2", "--scope", "layer", "--out", str(tmp_path)], capsys)
    assert "epochs is 1 there, 2 here" in message


def test_a_run_made_before_an_option_was_there_goes_on(tmp_path):
    config = Config(out=tmp_path)
    with command_line.opened(config) as folder:
        made = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({name: made[name] for name in made if name != "reduction"}))
    with command_line.opened(config):
        pass
    (folder / "config.json").write_text(json.dumps({**made, "epochs": 5}))
    with pytest.raises(CheckpointError, match="epochs is 5 there, 16 here"), command_line.opened(config):
        pass
    (folder / "config.json").write_text("1")
    with pytest.raises(CheckpointError, match="not the configuration of a run"), command_line.opened(config):
        pass


def test_the_dry_run_prints_the_plan_and_writes_nothing(tmp_path, capsys):
    assert imp.main(["--dry-run", "--out", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    for words in ("216: 4 replicates, 18 levels", "0.02252", "928 steps", "266,610, of which 266,200", "memory"):
        assert words in printed
    assert not list(tmp_path.iterdir())


def test_a_reader_that_stops_reading_ends_it_silently():
    reading, writing = os.pipe()
    os.close(reading)  # as `| head` does when it has seen enough
    command = [sys.executable, str(SCRIPT), "--dry-run"]
    with os.fdopen(writing, "w") as output:
        ended = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False, timeout=300)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_the_folder_is_named_by_what_changes_the_numbers():
    assert Config(levels=3, replicates=9, checkpoint_seconds=1.0).hash() == Config().hash()
    assert len({Config().hash(), Config(seed=1).hash(), Config(scope="layer").hash()}) == 3


def test_a_preset_sets_defaults_that_flags_change(capsys):
    assert imp.main(["--preset=lenet_mnist5k", "--limit", "1000", "--rewind-fraction", "0.01", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "253 steps of 60 examples, after the 3 up to the rewind point" in printed  # 16 epochs of 16 batches
    preset, others = command_line.take_preset(
        ["--levels", "2", "--preset", "resnet20_cifar", "--epochs", "1"], imp.PRESETS
    )
    config = command_line.parse(preset.CONFIG, others, description=None)
    assert (config.model, config.epochs, config.levels, config.decay) == ("resnet_20", 1, 2, "steps")
    assert all(module.__doc__.count("python experiments/imp.py") for module in imp.PRESETS.values())


def test_learning_rates():
    at = lambda step, **options: float(problems.learning_rate(Config(learning_rate=1.0, **options), 100)(step))
    assert [round(at(s, decay="steps", warmup=10), 6) for s in (0, 5, 10, 49, 50, 74, 75)] == [
        0,
        0.5,
        1,
        1,
        0.1,
        0.1,
        0.01,
    ]
    assert [round(at(s, decay="cosine"), 6) for s in (0, 50, 100)] == [1, 0.5, 0]
    assert at(77) == 1


def one_line_error(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        imp.main(arguments)
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lvels", "3"], "perhaps --levels was meant"),
        (["--levels", "x"], "--levels: invalid literal"),
        (["--levels", "0"], "error: --levels is 0, but must be at least 1"),
        (["--scope", "both"], "invalid choice 'both' for argument '--scope'"),
        (["--rate", "1"], "--rate is 1.0"),
        (["--learning-rate", "nan"], "--learning-rate is nan"),
        (["--scope", "layer", "--minimum", "3"], "--minimum is 3, but must be 0 with --scope layer"),
        (["--rewind-step", "5", "--rewind-fraction", "0.1"], "--rewind-step is 5, but must be 0 with"),
        (["--milestones", "0.7", "0.6"], "--milestones is (0.7, 0.6), but must be rising"),
        (["--preset", "lenet"], "--preset is 'lenet', but must be one of lenet_mnist5k, lenet_fashion"),
        (["--preset"], "--preset is '--out'"),
        (["--model", "conv_4"], "--model is conv_4, but must be lenet_300_100 for the flat images of mnist5k"),
        (["--limit", "50"], "--batch-size is 60"),
        (["--rewind-step", "928"], "--rewind-step is 928, but must be below the 928 steps"),
        (["--batch-size", "4000"], "--batch-size is 4000"),
        (["--validation", "4000"], "leave nothing of 5000"),
    ],
)
def test_bad_flags(arguments, words, capsys, tmp_path):
    assert words in one_line_error([*arguments, "--out", str(tmp_path / "runs")], capsys)
    assert not list(tmp_path.iterdir())


def test_unwritable_and_foreign_folders(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in one_line_error(["--out", str(tmp_path / "file")], capsys)
    foreign = Config(out=tmp_path).folder()
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("")
    assert "thesis.tex" in one_line_error(["--out", str(tmp_path)], capsys)


@pytest.mark.parametrize(("package", "extra"), [("tyro", "experiments"), ("flax", "models"), ("matplotlib", "plots")])
def test_absent_extras(package, extra, capsys, monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    message = one_line_error(["--out", str(tmp_path / "runs")], capsys)
    assert f"{package} is not installed; install it with: pip install 'jaxticket[{extra}]'" in message


def test_a_single_replicate_has_no_interval():
    accuracies = {"test_accuracy": 0.5, "validation_accuracy": 0.5}
    records = [LevelRecord(accuracies, 0, 0, branch, 1.0, []) for branch in imp.BRANCHES]
    table = searches.table(searches.summarise(records, imp.BRANCHES), imp.BRANCHES, title="one")
    assert "nan" not in table
    assert "50.00 ±" in table


def test_the_report_is_one_file_that_says_how_to_run_it_again(finished):
    _, out = finished
    (run,) = out.iterdir()
    page = (run / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page  # nothing is fetched
    (command,) = re.findall(r"<pre>(.*)</pre>", page)
    script, *flags = shlex.split(html.unescape(command))[1:]
    assert script == "experiments/imp.py"
    preset, others = command_line.take_preset(flags, imp.PRESETS)
    again = command_line.parse(preset.CONFIG, others, description=None)
    assert again.folder() == run
    assert again == of_run(run, out=out, levels=again.levels, replicates=again.replicates)
    assert "<td>hidden1/kernel</td>" in page, "the densities of layers"
    assert (run / "table.csv").read_text().startswith("level,density,ticket")
    for words in ("replicates", "jaxlib", "random reinit", "±"):
        assert words in page


def test_events_for_tensorboard_hold_the_numbers(finished):
    from tensorboardX.proto import event_pb2

    _, out = finished
    (run,) = out.iterdir()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    typed = [LevelRecord.parse(record) for record in records]
    assert [record.line() for record in typed] == records
    tensorboard.write(run / "tensorboard", tensorboard.over_levels(typed))
    (file,) = (run / "tensorboard" / "replicate_0_random_ticket").iterdir()
    data, found = file.read_bytes(), {}
    while data:  # records: length, its checksum, the event, its checksum
        length = int.from_bytes(data[:8], "little")
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        data = data[16 + length :]
    mine = [r for r in records if r["replicate"] == 0 and r["branch"] == "random_ticket"]
    for record in mine:
        assert found["test_accuracy", record["level"]] == pytest.approx(record["test_accuracy"])
    assert len(found) == 4 * len(mine)


@pytest.mark.slow
def test_searches_side_by_side(finished, tmp_path, capsys):
    arguments, out = finished
    (run,) = out.iterdir()
    arguments = ["--epochs", "1", "--levels", "2", "--replicates", "1", "--rate", "0.5", "--out", str(tmp_path)]
    assert imp.main(arguments) == 0
    (other,) = tmp_path.glob("imp-*")
    command = ["--runs", str(run), str(other), "--out", str(tmp_path / "both")]
    capsys.readouterr()
    assert compare_runs.main(command) == 0
    table = (tmp_path / "both" / "table.txt").read_text()
    assert table in capsys.readouterr().out
    assert "rate 0.2, scope layer" in table
    assert "rate 0.5, scope global\n    1.0000" in table
    assert (tmp_path / "both" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    for bad, words in [(command[:2], "names 1 run"), ([*command, "--branch", "dense"], "no results of the branch")]:
        with pytest.raises(SystemExit):
            compare_runs.main(bad)
        assert words in capsys.readouterr().err
