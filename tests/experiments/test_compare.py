"""Methods side by side: each cell is its own, finished ones are kept, and a killed run ends in the same numbers."""

import dataclasses
import html
import json
import pathlib
import re
import shlex

import jax
import numpy as np
import pytest

import jaxticket as jt
from experiments import compare, train
from experiments.claims.record import load
from experiments.imp import PRESETS
from experiments.runs import command_line
from experiments.runs.config import Training
from experiments.runs.records import CellRecord
from experiments.studies.comparison import report
from experiments.training import kinds, problems
from experiments.training.cells import Cells
from experiments.training.trainer import Trainer
from jaxticket import data, models, tickets
from jaxticket.training import Fitted
from tests.cheap import blobs, cheap  # noqa: F401  # cheap is used by every test here

RECIPE = ["--epochs", "2", "--placement", "map"]
SMALL = [*RECIPE, "--densities", "0.2,0.1", "--seeds", "2"]
METHODS = ["--methods", "gradual,ste"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    assert compare.main([*SMALL, *METHODS, "--out", str(out)]) == 0
    (run,) = out.iterdir()
    return run


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_every_cell_is_trained_and_kept(finished):
    found = [(r["method"], r["density"], r["seed"]) for r in records(finished)]
    sparse = [(method, density, seed) for method in ("gradual", "ste") for density in (0.2, 0.1) for seed in (0, 1)]
    assert found == [("dense", 1.0, 0), ("dense", 1.0, 1), *sparse]
    for record in records(finished):
        assert record["kept"] == pytest.approx(record["density"], abs=1e-4)
        ticket = jt.load(kinds.Cell(record["method"], record["density"], record["seed"]).path(finished))
        assert float(jt.density(ticket.params, ticket.mask)) == pytest.approx(record["kept"])
        assert all(
            map(np.array_equal, *map(jax.tree.leaves, (ticket.params, jt.apply_mask(ticket.params, ticket.mask))))
        )
    assert len({record["loss"] for record in records(finished)}) == 10  # no two cells are one
    assert not (finished / "checkpoint").exists()


@pytest.mark.slow
def test_the_report(finished):
    results = json.loads((finished / "results.json").read_text())
    assert [*results] == ["dense", "gradual", "ste"]
    mine = [r["test_accuracy"] for r in records(finished) if (r["method"], r["density"]) == ("ste", 0.1)]
    assert results["ste"][1]["density"] == 0.1
    assert results["ste"][1]["test_accuracy"]["mean"] == pytest.approx(sum(mine) / 2)
    table = (finished / "table.txt").read_text()
    mean, half = (100 * results["ste"][1]["test_accuracy"][what] for what in ("mean", "half_width"))
    assert f"{mean:.2f} ± {half:5.2f}" in table
    assert "validation" in table
    assert (finished / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    (command,) = re.findall(r"<pre>(.*)</pre>", (finished / "report.html").read_text())
    script, *flags = shlex.split(html.unescape(command))[1:]
    assert script == "experiments/compare.py"
    assert command_line.training_config(compare.Config(), flags, PRESETS, description="").folder() == finished


def killed_at(monkeypatch, number, main, arguments):
    """Runs until so many checkpoints are saved, and returns the steps of these."""
    save, steps = tickets.StepCheckpoint.save, []

    def saved(self, origin, ticket, values):
        save(self, origin, ticket, values)
        steps.append(ticket.step)
        if len(steps) == number:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tickets.StepCheckpoint, "save", saved)
        with pytest.raises(SystemExit) as end:
            main(arguments)
    assert end.value.code == 130
    return steps


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(finished, tmp_path, monkeypatch):
    arguments = [*SMALL, "--checkpoint-seconds", "0", "--out", str(tmp_path)]
    # Dense has trained two epochs of five steps, gradual one: two methods are then more than what was asked for.
    assert killed_at(monkeypatch, 3, compare.main, [*arguments, "--methods", "gradual"]) == [5, 10, 5]
    (run,) = tmp_path.iterdir()
    assert [record["method"] for record in records(run)] == ["dense", "dense"]
    dense = {path: path.stat().st_mtime_ns for path in run.glob("cells/dense/**/record.json")}
    save, steps = tickets.StepCheckpoint.save, []
    monkeypatch.setattr(tickets.StepCheckpoint, "save", lambda *args: (steps.append(args[2].step), save(*args)))
    assert compare.main([*arguments, *METHODS]) == 0
    assert steps == [10, 5, 10]  # gradual goes on from its checkpoint, then ste
    assert len(dense) == 2
    assert {path: path.stat().st_mtime_ns for path in dense} == dense  # loaded, not trained again
    assert records(run) == records(finished)
    assert not (run / "checkpoint").exists()


@pytest.mark.slow
def test_fewer_of_a_finished_run_are_reported_without_training(finished, monkeypatch, capsys):
    monkeypatch.setattr(Cells, "_train", None)
    before = {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    assert compare.main([*SMALL, "--methods", "ste", "--densities", "0.1", "--out", str(finished.parent)]) == 0
    assert [(r["method"], r["density"]) for r in records(finished)] == [("dense", 1.0)] * 2 + [("ste", 0.1)] * 2
    assert "gradual" not in capsys.readouterr().out
    for path, content in before.items():
        path.write_bytes(content)


@pytest.mark.slow
def test_one_method_alone_finds_what_it_finds_among_others(finished, tmp_path, monkeypatch, capsys):
    flags = ["--method", "gradual", "--density", "0.1", "--seeds", "1", "--checkpoint-seconds", "0"]
    arguments = [*RECIPE, *flags, "--out", str(tmp_path)]
    assert killed_at(monkeypatch, 1, train.main, arguments) == [5]
    assert train.main(arguments) == 0
    (run,) = tmp_path.iterdir()
    (alone,) = records(run)
    history = alone.pop("history")
    assert alone in records(finished)
    assert [seen["step"] for seen in history] == [5, 10]
    assert history[0]["density"] > history[1]["density"] == pytest.approx(0.1, abs=1e-4)
    assert history[1]["validation_accuracy"] == alone["validation_accuracy"]
    printed = capsys.readouterr().out
    assert "epoch   1/2  loss" in printed
    assert "epoch   2/2  loss" in printed
    assert (run / "table.txt").read_text() in printed
    assert re.search(r"hidden1/kernel +4,704 +47,040 +0.1000", printed)
    assert (run / "accuracy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_seed_starts_from_the_same_weights_and_order_under_every_method():
    config = Training()
    basis = problems.basis(config)
    setting, lanes = kinds.settings(config, basis), []
    for method in ("random_erk", "rigl", "ste"):
        cell = kinds.Cell(method, 0.5, 1)
        lanes.append(kinds.kind(cell, config, basis, setting).begin(cell))
    masks = [jt.mask_of(lane.opt_state) for lane in lanes[:2]]
    dense = lanes[2].params
    for lane, mask in zip(lanes, masks):
        assert all(map(np.array_equal, *map(jax.tree.leaves, (lane.params, jt.apply_mask(dense, mask)))))
    assert len({tuple(jax.random.key_data(lane.key).tolist()) for lane in lanes}) == 1


@pytest.mark.slow
def test_methods_that_begin_from_the_same_bits_do_not_take_over_each_others_checkpoints(tmp_path):
    began = []

    def fit(params, state, mask, key, *, step, steps, opt_state, **others):
        began.append(step)
        return Fitted(params, state, opt_state, 0.0)

    trainer = Cells(Training(epochs=2, checkpoint_seconds=0), tmp_path, together=1)
    cells = [kinds.Cell(method, 0.5, 0) for method in ("ste", "top_kast")]
    for cell in cells:
        trainer._compiled[cell.kind] = trainer._kind(cell)[0], Trainer(fit, lanes=1, stacked=False)
    assert [record.method for record in trainer.train(cells)] == ["ste", "top_kast"]
    assert began == [0, 5, 0, 5]


def test_scores_read_batches_as_large_as_those_of_their_authors_code():
    dataset = blobs(seed=0, validation=300, test=300)
    read = {name: kinds._batches(dataset, name, seed=0) for name in ("snip", "grasp", "force", "iterative_snip")}
    sizes = {name: [len(batch.y) for batch in batches] for name, batches in read.items()}
    assert sizes == {"snip": [100], "grasp": [125] * 2, "force": [128] * 60, "iterative_snip": [128] * 60}
    rows = {name: [{row.tobytes() for row in np.asarray(b.x)} for b in batches] for name, batches in read.items()}
    assert len(set.union(*rows["grasp"])) == 250  # halves of the same examples
    assert len({frozenset(batch) for batch in rows["force"]}) == 60  # a fresh one in each round
    few = dataset._replace(train=data.Split(dataset.train.x[:9], dataset.train.y[:9]))
    assert [len(b.y) for b in kinds._batches(few, "grasp", seed=0)] == [4, 4]
    assert [len(b.y) for b in kinds._batches(few, "force", seed=0)] == [9] * 60


def test_grasp_and_force_score_batch_norms_in_training_mode():
    init = lambda key: ({"only": {"kernel": jax.random.normal(key, (784, 10))}}, None)
    apply = lambda params, state, x, *, train, key: (x @ params["only"]["kernel"] * (2 if train else 1), state)
    dataset = blobs(seed=0, validation=300, test=300)
    basis = problems.basis(Training(), dataset, models.Model(init, apply))
    setting = kinds.settings(Training(), basis)("force", 0.5)
    params, _ = init(jax.random.key(0))
    outputs = setting.apply(params, dataset.test.x)
    np.testing.assert_array_equal(setting.apply_train(params, dataset.test.x), 2 * outputs)


def test_cells_of_masks_that_never_change_share_a_program():
    trainer = Cells(Training(), pathlib.Path("nowhere"), together=4)
    config = compare.Config(methods=("random", "rigl", "snip"), densities=(0.2, 0.1), seeds=2)
    programs = [[cell.method for cell in program] for program in trainer.programs(config.cells())]
    assert programs == [
        ["dense", "dense", "random", "random"],
        ["random", "random", "snip", "snip"],
        ["snip"] * 2,
        ["rigl"] * 4,
    ]


def test_dry_runs_print_plans_and_write_nothing(tmp_path, capsys):
    out = ["--out", str(tmp_path / "runs"), "--dry-run"]
    assert compare.main([*SMALL, "--methods", "random,rigl", *out, "--dataset=mnist5k"]) == 0
    printed = capsys.readouterr().out
    assert "10: 2 methods, 2 densities, 2 seeds, and the dense network; 0 of them are finished" in printed
    assert "2, run 3 times with at most 4 trainings each" in printed
    assert train.main(["--method", "synflow", "--density", "0.02", *out]) == 0
    assert "Tanaka et al. 2020" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("main", "arguments", "words"),
    [
        (compare.main, ["--methods", "rigl,sett"], "method 'sett' is not in the registry"),
        (compare.main, ["--densities", "0.1,1"], "--densities is (0.1, 1.0), but must be between 0 and 1"),
        (compare.main, ["--densities", "0.1,0.1"], "--densities is (0.1, 0.1), but must be different values"),
        (compare.main, ["--seeds", "0"], "--seeds is 0, but must be at least 1"),
        (compare.main, ["--metods", "rigl"], "perhaps --methods was meant"),
        (train.main, ["--method", "rgl"], "perhaps one of these was meant: rigl"),
        (train.main, ["--evidence", "claims"], "--evidence is claims, but must be left out"),
        (train.main, ["--density", "0"], "--density is 0.0, but must be above 0 and at most 1"),
        (train.main, ["--batch-size", "4000"], "--batch-size is 4000"),
    ],
)
def test_bad_flags(main, arguments, words, capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--out", str(tmp_path / "runs")])
    message = capsys.readouterr().err
    assert end.value.code == 2
    assert message.startswith("error: ")
    assert words in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_claims_are_of_every_selection_that_was_trained(tmp_path):
    config = compare.Config(densities=(0.01,), seeds=2, out=tmp_path / "runs", evidence=tmp_path / "evidence")
    accuracies = {"dense": 0.95, "random_erk": 0.8, "rigl": 0.85, "sparse_evolutionary": 0.82}

    def train(*methods):
        asked = dataclasses.replace(config, methods=methods)
        records = [
            {**cell._asdict(), "kept": cell.density, "collapsed": [], "validation_accuracy": 0.5}
            | {"test_accuracy": accuracies[cell.method] + 1e-4 * cell.seed}
            for cell in asked.cells()
        ]
        for record, cell in zip(records, asked.cells(), strict=True):
            path = cell.path(config.folder())
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                jt.save(path, jt.Ticket({"w": np.ones(2)}, {"w": None}, meta=record))
        report.store_claims(asked)
        (found,) = load(config.evidence)
        return found, sorted(claim.claim.partition("weights ")[2] for claim in found.claims)

    _, first = train("random_erk", "rigl")
    assert first == ["RigL is more accurate than a static random mask."]
    found, both = train("sparse_evolutionary", "rigl")
    assert both == [
        "RigL is more accurate than SET.",
        "RigL is more accurate than a static random mask.",
        "SET is more accurate than a static random mask.",
    ]
    assert "--methods sparse_evolutionary rigl random_erk --densities 0.01 --seeds 2" in found.command
    old = config.folder() / "cells" / "renamed" / "density_0.01" / "seed_0"
    meta = {"method": "renamed", "density": 0.01, "seed": 0, "kept": 0.01, "collapsed": [], "test_accuracy": 0.5}
    old.parent.mkdir(parents=True)
    jt.save(old, jt.Ticket({"w": np.ones(2)}, {"w": None}, meta=meta))
    found, again = train("sparse_evolutionary", "rigl")
    assert again == both  # a method that the registry no longer knows
    assert [*found.series] == ["random erk", "rigl", "sparse evolutionary"]


def test_what_went_wrong_is_told():
    accuracies = {"test_accuracy": 0.5, "validation_accuracy": 0.5}
    cut = CellRecord(accuracies, "top_kast", 0.01, 0, 0.01, ["output/kernel"])
    coarse = CellRecord(accuracies, "sr_ste", 0.1, 0, 0.25, [])
    told = report.warnings([cut, coarse])
    assert told.count("\n") == 2
    assert "top kast: output/kernel keeps no weight from density 0.01 on" in told
    assert "sr ste keeps 0.25 where 0.1 is asked" in told
