"""Branches of a finished search: what is changed changes, what is not gives the ticket's own numbers."""

import dataclasses
import json

import jax
import pytest

from experiments import branch, compare_runs, imp, verdict
from experiments.reports import searches, tables
from experiments.runs import folder
from experiments.runs.records import LevelRecord
from experiments.studies.imp import verdicts
from jaxticket import tickets

FLAGS = ["--levels", "3", "--replicates", "2", "--epochs", "1", "--rewind-step", "20", "--rate", "0.5"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("branches")
    assert imp.main([*FLAGS, "--out", str(out)]) == 0
    (folder,) = out.iterdir()
    return folder


def train(run, name, *flags):
    """The records of a branch by column, each of level 2 of both replicates."""
    assert branch.main(["--run", str(run), "--branch", name, "--levels", "2", *flags]) == 0
    (file,) = (run / "branches").glob(f"{name}*/metrics.jsonl")
    columns = {}
    for line in map(json.loads, file.read_text().splitlines()):
        columns.setdefault(line["branch"], []).append(line)
    assert all(len(records) == 2 for records in columns.values())
    return columns


def accuracies(records):
    return [record["test_accuracy"] for record in records]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inverted_mask", "small_dense"])
def test_one_thing_changed(run, name, capsys):
    columns = train(run, name)
    assert (run / "branches" / name / "table.txt").read_text() in capsys.readouterr().out
    assert [*columns] == ["ticket", name]
    (start,) = json.loads((run / "branches" / name / "environment.json").read_text())
    assert start["commit"]
    assert accuracies(columns["ticket"]) != accuracies(columns[name])
    assert columns["ticket"][0]["density"] == columns[name][0]["density"] == pytest.approx(0.25, abs=1e-4)


@pytest.mark.slow
def test_a_small_dense_network_is_no_larger_than_the_ticket(run):
    train(run, "small_dense")
    folder = run / "replicate_0"
    small = tickets.load(folder / "branches/small_dense/small_dense/level_002")
    ticket = tickets.load(folder / "ticket/level_002")
    size = sum(leaf.size for leaf in jax.tree.leaves(small.params))
    kept = sum(int(leaf.sum()) for leaf in jax.tree.leaves(ticket.mask)) + 300 + 100 + 10
    assert 0.97 * kept < size <= kept
    assert small.params["hidden1"]["kernel"].shape[1] == 3 * small.params["hidden2"]["kernel"].shape[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "flags", "same", "other"),
    [
        # A checkpoint at every epoch's end, which a training at another rate must not take for its own.
        (
            "learning_rate_sweep",
            ["--learning-rates", "0.0012", "0.1", "--checkpoint-seconds", "0"],
            "ticket_0.0012",
            "ticket_0.1",
        ),
        ("rewinding_sweep", ["--rewind-steps", "0", "20"], "rewound_to_20", "rewound_to_0"),
        ("transfer", ["--to-optimizer", "adam"], "transfer", "random_ticket_there"),
    ],
)
def test_the_searchs_own_settings_give_the_tickets_own_numbers(run, name, flags, same, other):
    columns = train(run, name, *flags)
    expected = [
        record["test_accuracy"]
        for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        if record["branch"] == "ticket" and record["level"] == 2
    ]
    assert accuracies(columns[same]) == expected
    assert accuracies(columns[other]) != expected


@pytest.mark.slow
def test_verdicts_need_and_judge_what_was_retrained(run, capsys):
    assert branch.main(["--run", str(run), "--branch", "retrained"]) == 0
    capsys.readouterr()
    assert verdict.main(["--run", str(run), "--margin", "0.001"]) == 0
    text = capsys.readouterr().out
    assert (run / "verdict.txt").read_text() == text
    found = json.loads((run / "verdict.json").read_text())
    assert [*found] == ["1", "2"]
    assert found["2"]["retrained"]["n"] == 2
    assert all(outcome["outcome"] in text for outcome in found.values())
    assert verdict.main(["--run", str(run), "--best", "1.0"]) == 0
    assert capsys.readouterr().out.count("bad_recipe") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--levels", "7"], "--levels names 7, but the search has the levels 0 to 2"),
        (["--rewind-steps", "5"], "--rewind-steps is not for --branch sign_reinit"),
        (["--branch", "rewinding_sweep"], "--branch rewinding_sweep needs --rewind-steps"),
        (["--branch", "rewinding_sweep", "--rewind-steps", "9999"], "--rewind-step is 9999, but must be below the 58"),
        (["--branch", "transfer"], "--branch transfer has no target"),
        (["--branch", "transfer", "--to-optimizer", "sgd", "--learning-rates", "1", "2"], "names 2"),
    ],
)
def test_bad_flags(run, flags, message, capsys):
    with pytest.raises(SystemExit) as end:
        branch.main(["--run", str(run), *flags])
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_a_folder_without_a_search(tmp_path, capsys):
    for main in (branch.main, verdict.main):
        with pytest.raises(SystemExit):
            main(["--run", str(tmp_path)])
        assert "does not hold a search of experiments/imp.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "words"),
    [(branch.main, "--run {0}"), (verdict.main, "--run {0}"), (compare_runs.main, "--runs {0} {0}")],
)
def test_a_search_whose_records_are_damaged(main, words, tmp_path, capsys):
    search = imp.Config(out=tmp_path)
    search.folder().mkdir()
    folder.claim(search.folder(), {"experiment": "imp", **search.identity()})
    records = [LevelRecord({"test_accuracy": 0.5}, 0, level, "ticket", 1.0, []).line() for level in range(3)]
    file = search.folder() / "metrics.jsonl"
    first, *others = [f"{json.dumps(record)}\n" for record in records]
    for damaged in ("[1]\n", "{}\n", '{"branch": "ti\n', "\xff\n"):
        file.write_bytes("".join([first, damaged, *others]).encode("latin1"))
        with pytest.raises(SystemExit) as end:
            main(words.format(search.folder()).split())
        errors = capsys.readouterr().err
        assert end.value.code == 2
        assert f"{file}: line 2 is damaged; run the search again" in errors
        assert errors.count("\n") == 1
    file.write_text("".join([first, *others])[:-5])  # killed while it wrote the last line
    assert [record.level for record in searches.read(file, "ticket")] == [0, 1]
    assert searches.read(tmp_path / "absent", "ticket") == []


@pytest.mark.slow
def test_a_search_without_retrained_levels(run, capsys, monkeypatch):
    monkeypatch.setattr(verdicts, "_accuracies", lambda file, branch: {})
    with pytest.raises(SystemExit):
        verdict.main(["--run", str(run)])
    assert "run experiments/branch.py --branch retrained first" in capsys.readouterr().err


def test_collapsed_layers_are_told():
    record = LevelRecord({}, 0, 1, "random_ticket", 0.01, ["output/kernel"])
    others = [dataclasses.replace(record, density=0.005), dataclasses.replace(record, branch="ticket", collapsed=[])]
    told = tables.collapse([record, *others], advice="--minimum keeps some of each")
    assert told.count("\n") == 1
    assert "random ticket: output/kernel keeps no weight from density 0.01 on; --minimum" in told
