"""Data pruning: scores and subsets of training examples only, cells that are kept, and a killed run's same numbers."""

import dataclasses
import functools
import html
import json
import math
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from experiments import data_pruning
from experiments.runs import arrays, command_line
from experiments.runs.records import SubsetRecord
from experiments.studies.data_pruning import claims, findings, keys, students
from experiments.studies.data_pruning import memorisation as memorising
from experiments.studies.data_pruning.config import Cell, Config, Study, noisy, studies
from experiments.studies.data_pruning.findings import Lead
from experiments.studies.data_pruning.scores import Scorer, score_model
from experiments.studies.data_pruning.students import Students, choose
from experiments.training import problems, subsets
from experiments.training.subsets import Taught
from experiments.training.trainer import Lane, Trainer
from jaxticket import data, tickets
from jaxticket.data import _mnist
from jaxticket.data_pruning import Statistics, Tracked
from jaxticket.errors import CheckpointError
from jaxticket.methods.datasets.memorisation import memorisation
from jaxticket.tickets._store import fingerprint
from tests.cheap import cheap  # noqa: F401  # used by every test here

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = ["--epochs", "2", "--score-epochs", "1", "--score-replicates", "2", "--seeds", "2", "--fractions", "0.2,0.5"]
SMALL += ["--learning-rate", "0.01", "--batch-size", "30"]
SCORES = ["--scores", "el2n,random"]
GOLDEN_KEYS = {  # of seed 3
    "cells": [3716834203, 3481239269],
    "networks": [1946498123, 2217676430],
    "teacher": [1024511538, 2603795180],
    "prototypes": [877192987, 3448417067],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    flags = ["--scores", "el2n,grand,forgetting,prototypes,random", "--label-noise", "0.2", "--distil", "random"]
    assert data_pruning.main([*SMALL, *flags, "--out", str(out)]) == 0
    (run,) = out.iterdir()
    return run


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def made_study(changed=None, **others):
    """A study of 300 examples without anything compiled."""
    config = Config(**{"scores": ("el2n", "random"), **others})
    (study,) = studies(config)
    return config, study if changed is None else study._replace(changed=changed)


# What is chosen, and of what.


def test_subsets_are_the_hardest_the_easiest_and_those_between():
    config, study = made_study(label_noise=0.1)
    scores = {"el2n": np.arange(300.0, dtype=np.float32)}
    rows = lambda order, **cell: np.flatnonzero(choose(config, study, Cell(0, "el2n", order, False, 0.2, 0), scores))
    assert rows("hard").tolist() == [*range(240, 300)]
    assert rows("easy").tolist() == [*range(60)]
    assert rows("middle").tolist() == [*range(210, 270)]  # without the hardest tenth
    everything = choose(config, study, Cell(0, "all", "", False, 1.0, 0), scores)
    assert everything.all()
    drawn = [np.asarray(choose(config, study, Cell(0, "random", "", False, 0.2, seed), scores)) for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
    assert [one.sum() for one in drawn] == [60] * 3


def test_classes_keep_their_part_where_they_shall():
    config, study = made_study(balance=0.5)
    scores = {"el2n": np.asarray(study.labels, np.float32)}  # one class is the hardest of all
    cell = Cell(0, "el2n", "hard", False, 0.2, 0)
    held = study.composition(np.asarray(choose(config, study, cell, scores)))
    assert held["rarest_class"] == pytest.approx(3 / 60)
    without = study.composition(np.asarray(choose(dataclasses.replace(config, balance=0.0), study, cell, scores)))
    assert without["rarest_class"] == 0
    assert without["class_entropy"] == pytest.approx(1)  # two classes of ten
    assert (without["commonest_class"], held["commonest_class"]) == (0.5, pytest.approx(30 / 60 - 3 / 60, abs=0.1))


def test_a_part_of_the_training_labels_is_wrong_and_no_other():
    clean, changed = noisy(jnp.arange(1000, dtype=jnp.int32) % 10, 0.0, seed=0)
    labels, wrong = noisy(clean, 0.2, seed=0)
    assert not changed.any()
    assert wrong.sum() == 200
    assert (np.asarray(labels != clean) == wrong).all()
    shifts = np.bincount(np.asarray(labels - clean)[wrong] % 10, minlength=10)
    assert shifts[0] == 0
    assert shifts[1:].min() > 5
    (study,), (plain,) = (studies(Config(label_noise=part)) for part in (0.2, 0.0))
    for split in ("validation", "test"):
        pairs = zip(getattr(study.basis.dataset, split), getattr(plain.basis.dataset, split), strict=True)
        assert all((mine == its).all() for mine, its in pairs)
    assert int((study.labels != plain.labels).sum()) == study.changed.sum() == 60


def test_sizes_are_parts_of_each_other():
    small, large = studies(Config(sizes=(100, 0)))
    assert [len(study.labels) for study in (small, large)] == [100, 300]
    rows = {row.tobytes() for row in np.asarray(large.basis.dataset.train.x)}
    assert all(row.tobytes() in rows for row in np.asarray(small.basis.dataset.train.x))
    assert np.bincount(small.labels).tolist() == [10] * 10


def test_cells_pair_all_subsets_by_seed():
    config = Config(scores=("el2n", "random"), fractions=(0.1, 0.5), distil=("random",), seeds=2, label_noise=0.1)
    cells = config.cells()
    assert len({*cells}) == len(cells) == 2 * (1 + 2 * (3 + 1 + 1))
    assert [cell.name for cell in cells[2::2]] == 2 * [
        *("el2n, hard first", "el2n, easy first", "el2n, middle", "random", "random, taught")
    ]
    assert len({cell.path(pathlib.Path()) for cell in cells}) == len(cells)
    assert config.weight_of_teacher(0.1) == pytest.approx(0.9)
    assert config.weight_of_teacher(0.8) == 0.5


@pytest.mark.slow
def test_networks_that_memorise_have_parts_of_their_own():
    config, _ = made_study(scores=("memorisation",), memorisation_models=12)
    first, again, other = (np.asarray(memorising.drawn(config, 300, replicate)) for replicate in (0, 0, 1))
    assert first.shape == (12, 300)
    assert first.sum(1).tolist() == [210] * 12
    assert (first == again).all()
    assert len({row.tobytes() for row in (*first, *other)}) == 24


def test_memorisation_changes_nothing_of_runs_without_it():
    """The keys that published numbers hang on, and the names of runs."""
    config = Config(seed=3)
    found = {name: jax.random.key_data(key).tolist() for name, key in keys.keys(config.seed)._asdict().items()}
    assert found.pop("memorisation") not in found.values()
    assert found == GOLDEN_KEYS
    assert Config().hash() == "44136fa355"  # of no changes
    assert len({dataclasses.replace(config, memorisation_models=models).hash() for models in (60, 61)}) == 2
    assert config.networks() == 3
    more = dataclasses.replace(config, scores=("el2n", "memorisation"), score_width=9)
    assert (more.networks(), more.memorising()) == (2 * (3 + 180), 2 * 180)


# What is found.


def test_the_turn_from_easy_to_hard():
    along = lambda *means: [Lead(f, mean, 0.0) for f, mean in zip((0.1, 0.3, 0.5), means, strict=True)]
    assert findings.turn(along(-3.0, -1.0, 1.0)) == pytest.approx(0.4)
    assert findings.turn(along(-3.0, 1.0, 1.0)) == pytest.approx(0.25)
    assert findings.turn(along(1.0, -1.0, 3.0)) == pytest.approx(0.35)  # the last one
    assert findings.turn(along(1.0, 2.0, 3.0)) == 0
    assert findings.turn(along(1.0, 2.0, -3.0)) is None
    assert findings.turn(along(1.0, 2.0, math.nan)) is None


@pytest.mark.slow
def test_how_far_scores_are_trusted():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300)
    noise = [rng.normal(size=300) for _ in range(4)]
    scores = {"el2n": np.stack([truth + each for each in noise]), "margin": np.stack([truth, truth])}
    _, study = made_study(changed=truth > np.quantile(truth, 0.8))
    trusted = findings.trust(study, scores, {"el2n": -scores["el2n"], "margin": scores["margin"]})
    assert trusted["margin"].replicates == trusted["margin"].transfer == pytest.approx(1)
    assert trusted["el2n"].transfer == pytest.approx(-1)
    assert 0.3 < trusted["el2n"].replicates < trusted["el2n"].halves < 0.9  # averaging helps
    assert trusted["margin"].precision.mean == trusted["margin"].averaged == pytest.approx(1)
    assert 0.2 < trusted["el2n"].precision.high < trusted["el2n"].averaged < 1
    assert math.isnan(findings.trust(study, {"el2n": scores["el2n"][:1]}, None)["el2n"].halves)


def invented(config):
    """Records of trainings in which a tenth by el2n is best if easy, and half of all if hard."""
    accuracy = lambda cell: {
        "all": 0.9,
        "random": 0.85 if cell.taught else 0.8,
        "el2n": {"hard": {0.1: 0.2, 0.5: 0.9}, "easy": {0.1: 0.6, 0.5: 0.7}}.get(cell.order, {}).get(cell.fraction),
    }[cell.score]
    wobbling = lambda cell: accuracy(cell) + 0.001 * cell.seed**2 * (cell.score == "el2n")
    return [SubsetRecord({"test_accuracy": wobbling(cell)}, *cell, cell.name, 0) for cell in config.cells()]


def test_leads_are_of_hard_first_and_paired_by_seed():
    config, study = made_study(fractions=(0.5, 0.1), seeds=3)
    found = findings.turns(config, invented(config), [study])["el2n"]["300"]
    assert [lead["fraction"] for lead in found["leads"]] == [0.1, 0.5]
    assert [lead["mean"] for lead in found["leads"]] == pytest.approx([-40, 20])
    assert max(lead["half_width"] for lead in found["leads"]) < 1e-9  # both orders of a seed wobble alike
    assert found["fraction"] == pytest.approx(0.1 + 0.4 * 40 / 60, abs=1e-5)
    told = findings.sentences({"el2n": {"300": found}})
    assert told.startswith("of 300 examples, el2n: hard first overtakes easy first at 37 % (110 examples)")


def test_claims_follow_the_numbers():
    config, study = made_study(fractions=(0.1, 0.5), distil=("random",), seeds=3)
    found = invented(config)
    made = claims.claims(config, found, study, {})
    assert {claim.claim.split(" (")[0]: (claim.verdict, round(claim.value)) for claim in made} == {
        "The hardest 50 % by el2n train better than a random 50 %": ("holds", 10),
        "Of 10 % of the data, the easiest by el2n train better than the hardest": ("holds", 40),
        "The hardest half of the data by el2n trains as well as all, within half a point": ("holds", 0),
        "Students on 10 % of the data": ("holds", 5),
    }
    swapped = [dataclasses.replace(r, order={"hard": "easy", "easy": "hard"}.get(r.order, "")) for r in found]
    assert [claim.verdict for claim in claims.claims(config, swapped, study, {})][:3] == ["fails"] * 3


# What is kept.


def test_arrays_are_kept_and_those_of_other_examples_refused(tmp_path):
    file, made = tmp_path / "scores" / "one.npz", []

    def make():
        made.append(1)
        return {"el2n": np.arange(3.0)}

    kept = lambda names, examples: arrays.kept(file, names, make, origin=fingerprint(examples))
    ours, others = jnp.arange(3.0), jnp.arange(3.0) + 1
    assert kept({"el2n"}, ours)["el2n"].tolist() == [0, 1, 2]
    assert kept({"el2n"}, ours)["el2n"].tolist() == [0, 1, 2]
    assert len(made) == 1
    with pytest.raises(CheckpointError, match="other training examples"):
        kept({"el2n"}, others)
    whole = file.read_bytes()
    for damaged in (whole[:-100], b"", b"PK" + bytes(50)):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            kept({"el2n"}, ours)


def test_a_damaged_record_is_told(tmp_path):
    config = Config(out=tmp_path)
    cell, other = config.cells()[:2]
    file = cell.path(config.folder())
    file.parent.mkdir(parents=True)
    for content in ("", "[]", "{}", json.dumps(other._asdict())):
        file.write_text(content)
        with pytest.raises(CheckpointError, match="damaged"):
            students.read(cell, config)


def test_dry_runs_print_plans_and_write_nothing(tmp_path, capsys):
    flags = ["--sizes", "0,100", "--label-noise", "0.1", "--distil", "el2n"]
    assert data_pruning.main([*SMALL, *SCORES, *flags, "--out", str(tmp_path / "runs"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "300 to train on, 30 of them with wrong labels" in printed
    assert "100 to train on, 10 of them with wrong labels" in printed
    assert "0 of 60 trainings" in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fractions", "0.1,1.5"], "--fractions is (0.1, 1.5), but must be above 0 and at most 1"),
        (["--fractions", "0"], "--fractions is (0.0,), but must be above 0"),
        (["--fractions", "0.1,0.1"], "--fractions is (0.1, 0.1), but must be different values"),
        (["--scores", "el2n,grnd"], "grnd"),
        (["--orders", "hardest"], "hardest"),
        (["--label-noise", "1"], "--label-noise is 1.0, but must be at least 0 and below 1"),
        (["--balance", "2"], "--balance is 2.0, but must be at least 0 and at most 1"),
        (["--orders", "middle", "--skip", "0.5"], "--skip is 0.5, but must be at most"),
        (["--distil", "grand"], "--distil is ('grand',), but must be among --scores"),
        (["--score-epochs", "17"], "--score-epochs is 17, but must be 1 to the 16"),
        (["--sizes", "301"], "--sizes is (301,), but must be at most the 300 training examples"),
        (["--sizes", "10"], "--batch-size is 60, but must be at most the 10 training examples"),
        (["--temperature", "0"], "--temperature is 0.0, but must be above 0"),
        (["--teacher-weight", "1.1"], "--teacher-weight is 1.1"),
        (["--reduction", "fixed"], "--reduction is fixed"),
        (["--distil", "el2n", "--augment", "crop-and-flip"], "--augment is crop-and-flip, but must be none"),
        (["--on-nan", "skip"], "--on-nan is skip"),
        (["--seeds", "0"], "--seeds is 0, but must be at least 1"),
        (["--memorisation-models", "1"], "--memorisation-models is 1, but must be at least 2"),
        (["--memorisation-epochs", "-1"], "--memorisation-epochs is -1, but must be at least 0"),
        (["--scores", "memorisation", "--memorisation-models", "9"], "--memorisation-models is 9, but must be more"),
        (["--fraction", "0.1"], "perhaps --fractions was meant"),
    ],
)
def test_bad_flags(arguments, words, capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        data_pruning.main([*arguments, "--out", str(tmp_path / "runs")])
    message = capsys.readouterr().err
    assert end.value.code == 2
    assert message.startswith("error: ")
    assert words in message
    assert message.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# What is trained.


def test_scores_are_read_early_and_statistics_at_the_end(monkeypatch):
    """Never learned is harder than learned last, and than forgotten as often as can be; all else is as counted."""
    config, study = made_study(epochs=7, score_epochs=2)
    scorer = Scorer(config, study, model=None, name="same")
    counts = [jnp.array(values) for values in ([7, 7, 7], [0, 4, 7])]
    others = [jnp.array(values) for values in ([False, True, True], [0, 3, 0], [-1, 34, 2])]
    sums = {name: jnp.array([7.0, 3.5, 0.0]) for name in ("el2n", "margin", "logit_margin", "entropy", "loss")}
    statistics = Statistics(jnp.int32(35), *counts, *others, sums)

    def train(lanes, *, step=0, steps, stretch):
        return [(lane._replace(params=step + steps), 0.0) for lane in lanes]

    monkeypatch.setattr(Scorer, "_trainer", types.SimpleNamespace(train=train))
    begin = lambda self, replicate: Lane(0, Tracked(None, statistics), None, None)
    monkeypatch.setattr(Scorer, "_begin", begin)
    monkeypatch.setattr(Scorer, "_at", lambda self, params, state, grand: {"el2n": params})
    scores = scorer._train(0, grand=False)
    assert scores["el2n"] == 2 * 5  # of 300 examples, 60 a step
    assert scores["forgetting"].tolist() == [7, 3, 0]
    assert scores["first_learned"].tolist() == [35, 34, 2]
    assert scores["mean_margin"].tolist() == [1, 0.5, 0]


@pytest.mark.parametrize("placement", ["sequence", "data"])
def test_trainings_that_take_turns_go_one_at_a_time(placement):
    """However many devices there are: a program of several would train the first alone."""
    config, study = made_study(placement=placement, batch_size=56)
    recipe = subsets.recipe(config, study.basis)
    assert len(jax.devices()) > 1
    assert subsets.trainer(config, study.basis.model, recipe, together=5).lanes == 1


def test_a_loss_counts_what_is_real_and_the_teacher_by_its_weight():
    """Against numpy, on a batch with a row that only fills it."""
    config, study = made_study()
    basis, (x, y, *_) = study.basis, study.basis.dataset.train
    params, state = basis.init(jax.random.key(0))
    teacher = jax.random.normal(jax.random.key(1), (300, 10))
    batch = subsets.Batch((x[:3], y[:3]), jnp.arange(3), jnp.array([True, True, False]))
    logits = np.asarray(basis.model.apply(params, state, x[:3], train=False, key=None)[0], np.float64)
    softmax = lambda z: np.exp(z - z.max(1, keepdims=True)) / np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True)
    hard = -np.log(softmax(logits)[np.arange(3), y[:3]])
    soft, its = softmax(logits / 4), softmax(np.asarray(teacher[:3], np.float64) / 4)
    apart = 16 * (its * (np.log(its) - np.log(soft))).sum(1)
    plain = subsets.recipe(config, basis)
    split = batch._replace(examples=data.Split(x[:3], y[:3]))
    assert float(jax.jit(plain.loss)(params, state, split, jax.random.key(0))[0]) == pytest.approx(
        hard[:2].mean(), rel=1e-5
    )
    taught = subsets.distilled(config, basis, teacher, temperature=4.0)
    loss = jax.jit(taught.loss)
    lesson = batch._replace(examples=jax.tree.map(lambda rows: rows[:3], taught.data))
    for weight in (0.0, 0.3, 1.0):
        value, _ = loss(params, Taught(state, jnp.float32(weight)), lesson, jax.random.key(0))
        assert float(value) == pytest.approx((1 - weight) * hard[:2].mean() + weight * apart[:2].mean(), rel=1e-4)


@pytest.mark.slow
def test_no_example_but_those_to_train_on_enters_a_score_or_a_subset(tmp_path):
    """Test and validation examples are not a number: whatever looked at one would be none either."""
    changes = {"epochs": 2, "score_epochs": 1, "score_replicates": 1, "memorisation_models": 24}
    config, study = made_study(**changes, out=tmp_path, placement="map")
    spoilt = lambda split: split._replace(x=jnp.full_like(split.x, jnp.nan))
    dataset = study.basis.dataset
    dataset = dataset._replace(validation=spoilt(dataset.validation), test=spoilt(dataset.test))
    spoiling = Study(0, problems.basis(config, dataset), study.changed)
    names = ("el2n", "grand", "margin", "entropy", "loss", "forgetting", "first_learned", "mean_loss")
    names += ("prototypes", "memorisation")
    scores = Scorer(config, spoiling, model=spoiling.basis.model, name="same").scores(names)
    for name in names:
        assert scores[name].shape == (1, len(dataset.train.y))
        assert np.isfinite(scores[name]).all()
        assert len(np.unique(scores[name])) > 1
    for cell in config.cells():
        rows = choose(config, spoiling, cell, {name: values[0] for name, values in scores.items()})
        assert rows.shape == (len(dataset.train.y),)
    record = next(Students(config, spoiling, {}).train([Cell(0, "random", "", False, 0.5, 0)]))
    assert math.isfinite(record.metrics["loss"])
    assert record.metrics["test_accuracy"] < 0.3  # as often as it says the first class


@pytest.mark.slow
def test_a_seed_starts_from_the_same_weights_and_order_for_every_subset():
    config, study = made_study(distil=("random",))
    everything, hard, taught = config.cells()[0], config.cells()[6], config.cells()[-3]
    assert (hard.score, taught.taught, taught.seed) == ("el2n", True, 0)
    students = Students(config, study, {})
    lanes = [students._begin(cell, jnp.ones(300, bool)) for cell in (everything, hard, taught)]
    for lane in lanes[1:]:
        assert all(
            map(
                np.array_equal,
                *(jax.tree.leaves((one.params, jax.random.key_data(one.key))) for one in (lanes[0], lane)),
            )
        )


@pytest.mark.slow
def test_every_cell_is_trained_and_kept(finished):
    found = records(finished)
    assert len(found) == 2 * (1 + 2 * (4 * 3 + 1 + 1))
    assert len({(r["name"], r["fraction"], r["seed"]) for r in found}) == len(found)
    assert len({r["loss"] for r in found}) == len(found)  # no two cells are one
    for record in found:
        assert record["examples"] == round(record["fraction"] * 300)
        assert record["loss"] > 0
    assert not (finished / "checkpoint").exists()
    files = {path.name for path in (finished / "scores" / "size_0").iterdir()}
    assert files == {"same_0.npz", "same_1.npz", "prototypes_0.npz", "prototypes_1.npz"}
    subsets = {file.name: json.loads(file.read_text()) for file in (finished / "subsets" / "size_0").iterdir()}
    assert len(subsets) == 4 * 3 * 2
    assert len(subsets["el2n-hard-0.5.json"]["rows"]) == 150
    assert not {*subsets["el2n-hard-0.2.json"]["rows"]} & {*subsets["el2n-easy-0.2.json"]["rows"]}


@pytest.mark.slow
def test_wrong_labels_are_found_by_what_knows_the_labels(finished):
    trusted = json.loads((finished / "results.json").read_text())["scores"]["300"]
    for score in ("el2n", "grand"):
        assert trusted[score]["precision"]["mean"] > 0.5  # of a fifth by chance
    assert trusted["prototypes"]["precision"]["mean"] < 0.3  # the control, which knows none
    of = lambda name: [r["changed_labels"] for r in records(finished) if r["name"] == name and r["fraction"] == 0.2]
    assert min(of("el2n, hard first")) > 0.5
    assert max(of("el2n, easy first")) < 0.05


@pytest.mark.slow
def test_the_report(finished):
    results = json.loads((finished / "results.json").read_text())
    mine = [r["test_accuracy"] for r in records(finished) if (r["name"], r["fraction"]) == ("grand, easy first", 0.5)]
    (row,) = [r for r in results["rows"] if (r["name"], r["fraction"]) == ("grand, easy first", 0.5)]
    assert row["test_accuracy"]["mean"] == pytest.approx(sum(mine) / 2)
    table = (finished / "table.txt").read_text()
    assert f"{100 * row['test_accuracy']['mean']:.2f} ±" in table
    assert "wrong labels in %" in table
    assert [lead["fraction"] for lead in results["turns"]["grand"]["300"]["leads"]] == [0.2, 0.5]
    for plot in ("accuracy.png", "wrong_labels.png"):
        assert (finished / plot).read_bytes().startswith(b"\x89PNG")
    (command,) = re.findall(r"<pre>(.*)</pre>", (finished / "report.html").read_text())
    script, *flags = shlex.split(html.unescape(command))[1:]
    assert script == "experiments/data_pruning.py"
    assert command_line.training_config(Config(), flags, data_pruning.PRESETS, description="").folder() == finished
    stored = json.loads((finished / "claims.json").read_text())
    assert len(stored["claims"]) == len({claim["id"] for claim in stored["claims"]}) == 4 + 1 + 3
    assert {*stored["series"]} == {row["name"] for row in results["rows"]} - {"all"}


@pytest.mark.slow
def test_more_scores_extend_a_run_and_interrupted_ones_go_on_to_the_same_numbers(finished, tmp_path, monkeypatch):
    flags = [*SMALL, "--label-noise", "0.2", "--checkpoint-seconds", "0", "--out", str(tmp_path)]
    save, saved = tickets.StepCheckpoint.save, []

    def interrupted(self, origin, ticket, values):
        save(self, origin, ticket, values)
        saved.append(ticket.step)
        if len(saved) in (2, 7):  # while a network scores, and while one is trained
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tickets.StepCheckpoint, "save", interrupted)
        for _ in range(2):
            with pytest.raises(SystemExit) as end:
                data_pruning.main([*flags, "--scores", "el2n,random"])
            assert end.value.code == 130
    assert data_pruning.main([*flags, "--scores", "el2n,random"]) == 0
    (run,) = tmp_path.iterdir()
    trained = {path: path.stat().st_mtime_ns for path in run.glob("cells/**/*.json")}
    more = ["--scores", "el2n,grand,forgetting,prototypes,random", "--distil", "random"]
    assert data_pruning.main([*flags, *more]) == 0
    assert {path: path.stat().st_mtime_ns for path in trained} == trained  # read, not trained again
    assert records(run) == records(finished)


@pytest.mark.slow
def test_memorisation_from_networks_to_the_report(tmp_path, monkeypatch):
    """300 digits, a fifth of them with wrong labels, which are learned by heart; interrupted between networks."""
    monkeypatch.setattr(data, "mnist5k", functools.cache(_mnist.mnist5k))
    flags = [*SMALL, "--scores", "memorisation,random", "--limit", "300", "--label-noise", "0.2", "--orders", "hard"]
    flags += ["--seeds", "1", "--score-replicates", "1", "--fractions", "0.2", "--out", str(tmp_path)]
    flags += ["--memorisation-models", "24", "--memorisation-epochs", "12"]
    train, begun, trained = memorising.Memorisation._train, [], []

    def interrupted(self, replicate, models, included):
        begun.append(models)
        if len(begun) == 2:
            raise KeyboardInterrupt
        trained.extend(models)
        return train(self, replicate, models, included)

    monkeypatch.setattr(memorising.Memorisation, "_train", interrupted)
    with pytest.raises(SystemExit):
        data_pruning.main(flags)
    assert 0 < len(trained) < 24
    assert data_pruning.main(flags) == 0
    assert trained == [*range(24)]  # none was trained twice
    (run,) = tmp_path.iterdir()
    config = command_line.training_config(Config(), flags, data_pruning.PRESETS, description="")
    (study,) = studies(config)
    folder = run / "scores" / "size_0" / "same_memorisation" / "0"
    right = np.stack([np.load(folder / f"{model}.npz")["right"] for model in range(24)])
    having = memorising.drawn(config, 300, 0)
    assert right[:, study.changed][having[:, study.changed]].mean() > 0.8  # by those that were trained on them …
    assert right[:, study.changed][~having[:, study.changed]].mean() < 0.1  # … and by nobody else
    scores = np.asarray(memorisation(jnp.asarray(right), having))
    found = json.loads((run / "results.json").read_text())["scores"]["300"]["memorisation"]
    assert found["averaged"] == pytest.approx(average_precision_score(study.changed, scores))
    assert found["averaged"] > 0.4  # of a fifth by chance
    chosen = json.loads((run / "subsets" / "size_0" / "memorisation-hard-0.2.json").read_text())["rows"]
    assert scores[chosen].min() >= np.sort(scores)[-60]
    claims = json.loads((run / "claims.json").read_text())["claims"]
    assert [claim["paper"] for claim in claims] == ["Feldman & Zhang 2020, memorisation and influence"]
    assert claims[0]["value"] == pytest.approx(100 * (found["averaged"] - 0.2))


@pytest.mark.slow
def test_scores_of_another_network(tmp_path):
    flags = [*SMALL, "--scores", "el2n", "--out", str(tmp_path), "--score-model", "conv_2", "--score-width", "2"]
    assert data_pruning.main([*flags, "--seeds", "1", "--fractions", "0.5"]) == 0
    (run,) = tmp_path.iterdir()
    assert {path.name for path in run.glob("scores/size_0/*")} == {
        f"{name}_{replicate}.npz" for name in ("conv_2_2", "same") for replicate in (0, 1)
    }
    means = [
        np.mean([np.load(run / f"scores/size_0/{name}_{replicate}.npz")["el2n"] for replicate in (0, 1)], 0)
        for name in ("conv_2_2", "same")
    ]
    transfer = json.loads((run / "results.json").read_text())["scores"]["300"]["el2n"]["transfer"]
    assert transfer == pytest.approx(findings.spearman(*means))
    assert abs(transfer) < 0.99  # they are not one network
    assert "with scores by" in (run / "table.txt").read_text()
    config = dataclasses.replace(Config(), score_width=7)
    params, _ = score_model(config, made_study()[1]).init(jax.random.key(0))
    assert params["hidden1"]["kernel"].shape == (784, 21)


@pytest.mark.slow
def test_a_budget_of_epochs_takes_fewer_steps(tmp_path, monkeypatch):
    counted = []
    train = Trainer.train

    def noted(self, lanes, **clock):
        counted.append((int(np.asarray(lanes[0].subset).sum()), clock["steps"], clock["stretch"]))
        return train(self, lanes, **clock)

    monkeypatch.setattr(Trainer, "train", noted)
    for budget in ("steps", "epochs"):
        flags = [*SMALL, "--scores", "random", "--seeds", "1", "--budget", budget, "--out", str(tmp_path)]
        assert data_pruning.main([*flags, "--distil", "random"]) == 0
    everything, half = (300, 20, 1.0), (150, 20, 1.0)  # all data, and the teacher before its first student
    assert counted[:6] == [everything, half, everything, half, (60, 20, 1.0), (60, 20, 1.0)]
    assert counted[6:] == [everything, (150, 10, 2.0), everything, (150, 10, 2.0), (60, 4, 5.0), (60, 4, 5.0)]


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_numbers(tmp_path):
    """SIGKILL, wherever it strikes, and then the same command again."""
    flags = ["--epochs", "1", "--score-epochs", "1", "--score-replicates", "1", "--fractions", "0.2", "--seeds", "2"]
    flags += [*SCORES, "--checkpoint-seconds", "0"]
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_NUM_CPU_DEVICES": "2"}

    def start(out):
        command = [sys.executable, "experiments/data_pruning.py", *flags, "--out", str(out)]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait(timeout=300) == 0
    for kept in (1, 3):  # records of all data, then of the first subsets
        process = start(killed)
        while len([*killed.glob("*/cells/**/*.json")]) < kept:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert start(killed).wait(timeout=300) == 0
    ((run,), (again,)) = ([*out.iterdir()] for out in (whole, killed))
    assert records(again) == records(run)
