"""ImageNet on meshes and processes: fake photographs, real runs; and the costs of full-size steps.

Run as a script, this file is experiments/imagenet.py with a narrow network and fake photographs from tfds.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))  # when run as a script

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import jaxticket as jt
from experiments import imagenet
from experiments.runs.records import StepRecord
from experiments.studies.imagenet import reading, training
from experiments.studies.imagenet.config import Config
from experiments.studies.imagenet.networks import NETWORKS, Network
from experiments.studies.imagenet.program import Program, weights_average
from jaxticket.errors import InputError
from jaxticket.tickets import _archive
from tests.models.zoo import shallow

EXAMPLES = 29  # of each split: three batches of 8 and a rest
FAST = ["--model", "narrow", "--image-size", "16", "--batch-size", "8", "--epochs", "6", "--warmup-epochs", "1"]
FAST += ["--precision", "float32", "--checkpoint-steps", "2"]
STEPS = 6 * (EXAMPLES // 8)
ALL = ("--mesh", "fsdp=2,tensor=2")  # and data=2, on eight devices


def narrow(classes, pixels):
    """A residual network of three blocks and 4 to 16 channels."""
    from jaxticket import models

    del pixels
    return shallow(models.resnet_20(classes=classes, width=4), blocks=1)


def as_script():
    """experiments/imagenet.py on fake photographs, with a line for each step, before which it may pause."""
    import tensorflow_datasets as tfds

    rules = {r"layer1/conv/kernel": P(None, None, None, "tensor"), r"layer2/conv/kernel": P(None, None, "tensor")}
    NETWORKS["narrow"] = Network(narrow, rules, minimum=64)
    training.REPORT_STEPS = 1
    onto, pause = reading.onto, float(os.environ.get("STEP_SECONDS", "0"))
    reading.onto = lambda *batch: time.sleep(pause) or onto(*batch)
    prepared = mock.patch.object(tfds.core.DatasetBuilder, "is_prepared", return_value=True)
    with tfds.testing.mock_data(num_examples=EXAMPLES), prepared:
        return imagenet.main()


def start(out, *arguments, devices, pause=0.0):
    # What one process has compiled the next ones load.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(out.parent / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    # The tests' own flags, of which those that save time to compile; they are known to the installed jaxlib.
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "optimization_level" in flag or "emitters" in flag]
    quick = {"XLA_FLAGS": " ".join(flags)}
    where = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, __file__, *FAST, "--out", str(out), *arguments]
    environment = {**os.environ, **cache, **quick, **where, "STEP_SECONDS": str(pause)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_two(out, *arguments, pause=0.0):
    """Two processes of two devices each.

    Each looks for SIGTERM once a second, as JAX does, and then agrees with the other: a test of signals needs steps
    that last.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = ["--coordinator", f"localhost:{free.getsockname()[1]}", "--num-processes", "2"]
    own = [[*coordinator, "--process-id", str(i), *arguments] for i in range(2)]
    return [start(out, *flags, devices=2, pause=pause) for flags in own]


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output, errors


def wait_for_step(process, words):
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(process.stderr.read())


def run_of(out):
    """The folder of the only run in `out`, and what it noted, but for its speed."""
    (run,) = out.iterdir()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return run, [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def arrays(ticket):
    trees, _ = _archive.read(ticket)
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(trees)}


def same(found, expected):
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("imagenet")


@pytest.fixture(scope="module")
def unbroken(folder):
    output, _ = finish(start(folder / "unbroken", *ALL, devices=8))
    assert all(line.isprintable() for line in output.splitlines())  # no control characters
    return run_of(folder / "unbroken")


@pytest.mark.slow
def test_stopped_by_sigterm_it_goes_on_to_the_bits_of_the_unbroken_run(folder, unbroken):
    run, expected = unbroken
    assert [line["step"] for line in expected if "loss" in line] == list(range(1, STEPS + 1))
    process = start(folder / "stopped", *ALL, devices=8)
    wait_for_step(process, "  step 5  ")
    process.send_signal(signal.SIGTERM)
    _, errors = finish(process)
    (stopped_at,) = re.findall(r"stopped by SIGTERM, after step (\d+) of rigl; the same command resumes", errors)
    assert 5 <= int(stopped_at) < STEPS
    output, _ = finish(start(folder / "stopped", *ALL, devices=8))
    assert f"  step {stopped_at}  loss" not in output
    assert f"  step {int(stopped_at) + 1}  loss" in output
    again, found = run_of(folder / "stopped")
    assert found == expected
    same(arrays(again / "ticket"), arrays(run / "ticket"))
    assert not list((again / "checkpoints").iterdir())
    for accuracy in (line["validation_accuracy"] for line in found if "validation_accuracy" in line):
        assert accuracy * EXAMPLES == pytest.approx(round(accuracy * EXAMPLES))  # no example is lost or counted twice


@pytest.mark.slow
def test_two_processes_train_what_one_does_and_one_goes_on(folder, unbroken):
    _, expected = unbroken
    processes = start_two(folder / "two", "--mesh", "fsdp=2", pause=0.5)
    wait_for_step(processes[0], "  step 5  ")
    processes[1].send_signal(signal.SIGTERM)  # both hear of it
    (_, errors), (silent, others) = map(finish, processes)
    assert "stopped by SIGTERM, after step" in errors
    assert "stopped by SIGTERM, after step" in others
    assert "epoch" not in silent
    run, found = run_of(folder / "two")
    last = found[-1]["step"]
    assert 5 <= last < STEPS
    losses = lambda lines: [line["loss"] for line in lines if "loss" in line][:5]
    assert losses(found) == pytest.approx(losses(expected), rel=1e-4)  # another mesh adds up in another order
    finish(start(folder / "two", *ALL, devices=8))
    _, whole = run_of(folder / "two")
    assert whole[: len(found)] == found
    assert [line["step"] for line in whole if "loss" in line] == list(range(1, STEPS + 1))
    densities = lambda lines: [line["density"] for line in lines if "density" in line]
    assert densities(whole) == densities(expected)
    assert jt.load(run / "ticket").step == STEPS


@pytest.mark.slow
def test_a_tensor_axis_across_processes(folder):
    """Both processes then read the same examples; and a run that ends in two processes is whole."""
    short = ["--mesh", "tensor=4", "--method", "random_erk", "--epochs", "2"]
    both = start_two(folder / "tensor", *short)
    finish(start(folder / "alone", *short, devices=4))
    for process in both:
        finish(process)
    (run, found), (alone, expected) = run_of(folder / "tensor"), run_of(folder / "alone")
    losses = lambda lines: [line["loss"] for line in lines if "loss" in line]
    assert losses(found) == pytest.approx(losses(expected), rel=1e-4)
    assert {path.name for path in run.iterdir()} == {path.name for path in alone.iterdir()}
    assert jt.load(run / "ticket").meta["density"] == jt.load(alone / "ticket").meta["density"]


@pytest.mark.slow
def test_levels_that_two_processes_found_are_kept_and_one_goes_on(folder):
    search = ["--method", "imp", "--density", "0.64", "--rewind-epochs", "1", "--epochs", "2", "--ema", "0.5"]
    processes = start_two(folder / "levels", *search, "--mesh", "fsdp=2", pause=0.5)
    wait_for_step(processes[0], "level 1  epoch   1.33/2")
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        finish(process)
    run, _ = run_of(folder / "levels")
    before = (run / "levels" / "level_000" / "record.json").stat().st_mtime_ns
    output, _ = finish(start(folder / "levels", *search, *ALL, devices=8))
    assert "level 0" not in output.partition("accuracy in %")[0]
    assert (run / "levels" / "level_000" / "record.json").stat().st_mtime_ns == before
    point = arrays(run / "rewind_point")
    for level, density in enumerate((1, 0.8, 0.64)):
        ticket = jt.load(run / "levels" / f"level_{level:03d}")
        assert ticket.step == EXAMPLES // 8
        sizes = {path: leaf.size for path, leaf in point.items() if path.startswith("['mask']")}
        kept = arrays(run / "levels" / f"level_{level:03d}")
        assert sum(kept[path].sum() for path in sizes) == round(density * sum(sizes.values()))
        for path in sizes:
            weights = path.replace("mask", "params")
            np.testing.assert_array_equal(kept[weights], np.where(kept[path], point[weights], 0))
    assert {"level 0", "level 1", "level 2"} <= set((run / "table.txt").read_text().replace("   ", "\n").split("\n"))


@pytest.mark.slow
def test_a_step_costs_the_plan_a_few_counts(folder):
    output, _ = finish(start(folder / "lowered", "--lower", "8", *ALL, devices=1))
    assert "on 8 devices (data 2, fsdp 2, tensor 2)" in output
    rows = dict(re.findall(r"^ +(\S[\w-]+) +(\d.*)$", output, re.MULTILINE))
    moved = {name: [float(x) for x in re.findall(r"= ([\d.]+) MiB", row)] for name, row in rows.items() if "×" in row}
    assert {"all-gather", "all-reduce"} <= moved.keys()
    assert sum(plain for plain, _ in moved.values()) > 0.1
    assert all(sparse - plain <= 0.02 for plain, sparse in moved.values())
    plain, sparse = map(float, rows["GFLOP"].split())
    weights = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(narrow(10, 16).init, jax.random.key(0))[0]))
    assert 1e9 * (sparse - plain) < 200 * weights  # a refresh counts its comparisons too
    assert not (folder / "lowered").exists()


@pytest.mark.slow
@pytest.mark.parametrize("preset", imagenet.PRESETS)
def test_the_dry_run_says_what_a_preset_does(preset, capsys, tmp_path):
    assert imagenet.main(["--preset", preset, "--dry-run", "--out", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    parameters = {"resnet50": "25,557,032", "vit_small": "22,050,664"}[preset]
    for words in (f"parameters   {parameters}", "mesh         data 8, fsdp 1, tensor 1", "TFLOP", "MiB a device"):
        assert words in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_full_size_networks_on_a_pod():
    mesh = jax.sharding.AbstractMesh((32, 4, 2), ("data", "fsdp", "tensor"))
    shapes = jax.eval_shape(NETWORKS["vit_small"].make(1000, 224).init, jax.random.key(0))[0]
    block = NETWORKS["vit_small"].shardings(shapes, mesh)["blocks"]["block1"]
    assert block["attention"]["query"]["kernel"].spec == P("fsdp", "tensor", None)
    assert block["mlp"]["output"]["kernel"].spec == P("tensor", "fsdp")
    with pytest.raises(InputError, match=r"attention/key/bias.* splits 6 into 4 parts"):
        NETWORKS["vit_small"].shardings(shapes, jax.sharding.AbstractMesh((1, 1, 4), ("data", "fsdp", "tensor")))


def test_meshes():
    assert Config(mesh="fsdp=2,tensor=2").axes(16) == {"data": 4, "fsdp": 2, "tensor": 2}
    assert Config(mesh="data=8,fsdp=2,tensor=1").axes(16) == {"data": 8, "fsdp": 2, "tensor": 1}
    assert Config().axes(8) == {"data": 8, "fsdp": 1, "tensor": 1}
    with pytest.raises(InputError, match="--mesh is data=2, but must be of sizes that make up 8 devices"):
        Config(mesh="data=2").axes(8)
    with pytest.raises(InputError, match="--mesh is fsdp=3, but must be of sizes that divide the 8 devices"):
        Config(mesh="fsdp=3", batch_size=9).axes(8)
    with pytest.raises(InputError, match="--batch-size is 1024, but must be a multiple of the 3 parts"):
        Config(mesh="data=3")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"model": "lenet"}, "--model is lenet, but must be one of resnet_50, vit_small"),
        ({"mesh": "rows=2"}, "--mesh is rows=2, but must be like data=8"),
        ({"mesh": "fsdp=2,fsdp=2"}, "must be like data=8"),
        ({"mesh": "fsdp:2"}, "must be like data=8"),
        ({"mesh": "fsdp=0"}, "must be like data=8"),
        ({"density": 0.0}, "--density is 0.0"),
        ({"density": 2.0}, "--density is 2.0, but must be at most 1"),
        ({"rate": 1.0}, "--rate is 1.0"),
        ({"method": "imp", "rewind_epochs": 90.0}, "--rewind-epochs is 90.0, but must be at least 0 and below"),
        ({"warmup_epochs": -1.0}, "--warmup-epochs is -1.0"),
        ({"ema": 1.0}, "--ema is 1.0"),
        ({"label_smoothing": -0.1}, "--label-smoothing is -0.1"),
        ({"lower": -1}, "--lower is -1"),
        ({"image_size": 0}, "--image-size is 0"),
        ({"evidence": pathlib.Path("claims")}, "--evidence is claims, but must be left out"),
    ],
)
def test_bad_flags(flags, words):
    with pytest.raises(InputError, match=words):
        Config(**flags)


def test_levels_end_at_the_density_asked_for():
    assert Config(density=0.64).densities() == pytest.approx([1, 0.8, 0.64])
    assert Config(density=0.7).densities() == pytest.approx([1, 0.8, 0.7])
    assert Config(density=0.3, rate=0.5).densities() == pytest.approx([1, 0.5, 0.3])
    assert Config(density=1.0).densities() == [1]


def test_absent_photographs_are_named_with_the_command_that_prepares_them(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(InputError, match=r"--data-dir .*train/CLASS.*data.prepare\('imagenet2012', folder=.*manual"):
        reading.find(Config(data_dir=tmp_path))


def test_folders_of_photographs(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for path in ("train/a/1.png", "train/b/2.png", "train/b/3.png", "val/a/4.png", "val/b/5.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / path)
    found = reading.find(Config(data_dir=tmp_path))
    assert (len(found.train), len(found.validation), found.classes) == (3, 2, 2)
    (tmp_path / "val" / "b").rename(tmp_path / "val" / "c")
    with pytest.raises(InputError, match="train and val must hold the same folders"):
        reading.find(Config(data_dir=tmp_path))


def test_the_average_of_the_weights_follows_them():
    mask = {"kernel": np.array([[False, True]])}
    tx = jt.sparsify(optax.chain(optax.sgd(1.0), weights_average(0.75)), jt.static(), mask=mask)
    params, state = jt.init(tx, {"kernel": jnp.array([[1.0, 4.0]])})
    expected = 4.0
    for _ in range(3):
        updates, state = tx.update({"kernel": jnp.ones((1, 2))}, state, params)
        params = optax.apply_updates(params, updates)
        expected = 0.75 * expected + 0.25 * float(params["kernel"][0, 1])
    assert optax.tree_utils.tree_get(state, "average")["kernel"].tolist() == [[0, expected]]


@pytest.mark.slow
def test_the_learning_rate_of_a_fresh_optimizer_begins_at_its_step(monkeypatch):
    monkeypatch.setitem(NETWORKS, "narrow", Network(narrow, {}))
    config = Config(model="narrow", image_size=8, batch_size=8, epochs=4, warmup_epochs=1.0, weight_decay=0.5)
    mesh = jax.sharding.AbstractMesh((8, 1, 1), ("data", "fsdp", "tensor"))
    program = Program(config, mesh, examples=85, classes=10)
    assert (program.per_epoch, program.steps) == (10, 40)
    rates = [float(program.learning_rate(step)) for step in (0, 5, 10, 25, 40)]
    assert rates == pytest.approx([0, 0.2, 0.4, 0.2, 0], abs=1e-6)
    params = {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}
    tx = program.inner(shift=25)
    updates, _ = tx.update(params, tx.init(params), params)
    assert float(updates["kernel"][0, 0]) == pytest.approx(-0.2 * 1.5)  # weights decay
    assert float(updates["bias"][0]) == pytest.approx(-0.2)  # others do not
    assert program.batch["image"].sharding.spec == P(("data", "fsdp"))


def test_the_journal_forgets_what_came_after_a_checkpoint(tmp_path):
    file = tmp_path / "metrics.jsonl"
    journal = training.Journal(file)
    lines = [{"training": name, "step": step} for name in ("level 0", "level 1") for step in (1, 2, 3)]
    for line in lines:
        journal.write(StepRecord.parse(line))
    with file.open("a") as stream:
        stream.write('{"training": "lev')  # torn by a kill
    journal.rewind("level 1", 2)
    assert [record.line() for record in training.read(file)] == lines[:5]


if __name__ == "__main__":
    sys.exit(as_script())
