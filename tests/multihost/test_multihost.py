"""Runs on 1, 2 and 4 processes: equal masks from equal scores, and with a fixed reduction equal bits of everything.

Slow for what they check (every process compiles its own programs): `make multihost` runs them.
"""

import json
import pathlib
import signal
import time

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jaxticket as jt
from jaxticket import diagnostics, masks
from jaxticket.tickets import Store, _archive
from tests.multihost.layouts import ROOT, Layout, finish, free_port, start
from tests.multihost.worker import DENSITIES, PLANS

ONE = Layout(1, 1)
OTHERS = (Layout(1, 2), Layout(1, 8), Layout(2, 2), Layout(4, 2))
TICKETS = ("masks", "rigl", "granet", *(f"imp/level_{level:03}" for level in range(len(DENSITIES))))
SEEDS = range(4)
SMALL = ["--preset", "lenet_mnist5k", "--limit", 500, "--epochs", 2, "--batch-size", 64, "--seeds", 1]
ON_PARTS = {
    "prac": ["--rounds", 3, "--rewind-step", 4],
    "data_pruning": [
        *["--scores", "el2n,grand,forgetting,memorisation,prototypes,random", "--memorisation-models", 30],
        *["--score-replicates", 1, "--fractions", "0.5", "--distil", "el2n"],
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """run(layout, reduction, seed) -> the folder that it left, run once."""
    folder, done = tmp_path_factory.mktemp("layouts"), {}

    def once(layout: Layout, reduction: str = "fixed", seed: int = 0) -> pathlib.Path:
        out = folder / f"{layout}-{reduction}-{seed}"
        if out not in done:
            worker = ROOT / "tests" / "multihost" / "worker.py"
            address = f"localhost:{free_port()}"
            commands = [[worker, out, reduction, seed, address, layout.processes, i] for i in range(layout.processes)]
            log = folder / f"log-{out.name}"
            finish(start(layout, commands, log), log)
            done[out] = out
        return done[out]

    return once


def bits(path: pathlib.Path) -> dict[str, np.ndarray]:
    trees, record = _archive.read(path)
    leaves = jax.tree_util.tree_leaves_with_path((trees, record["step"]))
    return {jax.tree_util.keystr(keys): np.asarray(leaf) for keys, leaf in leaves}


def assert_same_bits(path: pathlib.Path, expected: pathlib.Path) -> None:
    found, wanted = bits(path), bits(expected)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=f"{path} {name}")


@pytest.mark.parametrize("layout", OTHERS, ids=str)
def test_equal_scores_give_equal_masks_and_a_fixed_reduction_equal_weights(run, layout):
    found, expected = run(layout), run(ONE)
    for name in TICKETS:
        assert_same_bits(found / name, expected / name)
    assert json.loads((found / "results.json").read_text()) == json.loads((expected / "results.json").read_text())


@pytest.mark.parametrize("layout", [ONE, *OTHERS], ids=str)
def test_densities_are_exact(run, layout):
    selected = jt.load(run(layout) / "masks").mask
    sizes = {"stack": 8 * 16 * 24, "kernel": 64 * 40}
    assert sum(int(m.sum()) for m in selected["tree"].values()) == round(0.3 * sum(sizes.values()))
    assert {name: int(m.sum()) for name, m in selected["leaf"].items()} == {n: round(0.3 * s) for n, s in sizes.items()}
    assert selected["layers"]["stack"].sum((1, 2)).tolist() == [round(0.3 * 16 * 24)] * 8
    weights = 784 * 300 + 300 * 100 + 100 * 10
    for level, density in enumerate(DENSITIES):
        ticket = jt.load(run(layout) / f"imp/level_{level:03}")
        assert masks.summary(ticket.params, ticket.mask).maskable.kept == round(density * weights)
    for name in PLANS:
        ticket = jt.load(run(layout) / name)
        kept = masks.summary(ticket.params, ticket.mask).maskable.kept
        assert abs(kept - 0.1 * weights) <= 1.5  # the sum of what three layers round
        assert all(
            not np.any(np.asarray(p["kernel"])[~np.asarray(ticket.mask[n]["kernel"])]) for n, p in ticket.params.items()
        )


def test_any_order_stays_within_the_seeds(run, capsys):
    alone = [json.loads((run(ONE, "any", seed) / "results.json").read_text()) for seed in SEEDS]
    for layout in (Layout(1, 8), Layout(2, 2)):
        folder = run(layout, "any")
        results = json.loads((folder / "results.json").read_text())
        for name in results:
            of_seeds = [result[name]["test_accuracy"] for result in alone]
            found, spread = results[name]["test_accuracy"], diagnostics.interval(of_seeds)
            # One more seed would lie there, 95 times of 100: the interval of the mean is for means.
            half = spread.half_width * np.sqrt(len(of_seeds) + 1)
            last = name if name in PLANS else TICKETS[-1]
            ticket, other = jt.load(folder / last), jt.load(run(ONE, "any") / last)
            iou = float(masks.iou(ticket.params, ticket.mask, other.mask))
            with capsys.disabled():
                seeds = f"{spread.mean:.3f} ± {half:.3f}"
                print(
                    f"\n{name} on {layout}, any order: accuracy {found:.3f}, one device {seeds}, IoU of masks {iou:.3f}"
                )
            assert abs(found - spread.mean) <= half
            assert iou > 0.5


def test_a_ticket_of_four_processes_loads_on_one_device_and_on_eight(run):
    saved, alone = run(Layout(4, 2)), run(ONE)
    ticket, expected = jt.load(saved / "rigl"), jt.load(alone / "rigl")
    mesh = jax.make_mesh((8,), ("data",), devices=jax.devices()[:8])
    by_row = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    layout = jax.tree.map(lambda x: by_row if x.ndim and x.shape[0] % 8 == 0 else whole, ticket)
    spread = jt.load(saved / "rigl", like=ticket, shardings=layout)
    assert spread.params["hidden1"]["kernel"].sharding.is_equivalent_to(by_row, 2)
    for loaded in (ticket, spread):
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), loaded, expected)
    level = Store(saved / "imp").load_trained(2, like=jt.load(saved / "imp/level_002"))
    assert np.isfinite(np.asarray(level[0]["output"]["kernel"])).all()


def test_a_run_of_two_processes_that_is_killed_goes_on_in_one(tmp_path):
    flags = ["--method", "rigl", "--seeds", "1", "--epochs", "4", "--batch-size", "64", "--reduction", "fixed"]
    script = [ROOT / "experiments" / "train.py", *flags, "--checkpoint-seconds", "0", "--out"]
    address = f"localhost:{free_port()}"
    pod = ["--coordinator", address, "--num-processes", 2, "--process-id"]
    log = tmp_path / "killed"
    running = start(Layout(2, 2), [[*script, tmp_path / "broken", *pod, i] for i in range(2)], log)
    limit = time.monotonic() + 300
    while not list((tmp_path / "broken").glob("train-*/checkpoint/state_*/record.json")):
        assert all(process.poll() is None for process in running), log.with_name("killed.0").read_text()[-3000:]
        assert time.monotonic() < limit
        time.sleep(0.01)
    for process in running:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for name in ("broken", "unbroken"):
        log = tmp_path / f"log-{name}"
        finish(start(ONE, [[*script, tmp_path / name]], log), log)
    (folder,), (expected,) = ((tmp_path / name).glob("train-*") for name in ("broken", "unbroken"))
    (ticket,), (wanted,) = (list(path.glob("**/seed_0")) for path in (folder, expected))
    assert_same_bits(ticket, wanted)
    assert (folder / "metrics.jsonl").read_text() == (expected / "metrics.jsonl").read_text()


@pytest.mark.parametrize("experiment", ON_PARTS)
def test_trainings_on_parts_of_the_examples_are_the_same_on_two_processes(experiment, tmp_path):
    """As many devices in one process: two gradients have the same sum in either order."""
    script = [ROOT / "experiments" / f"{experiment}.py", *SMALL, *ON_PARTS[experiment], "--out"]
    pod = ["--coordinator", f"localhost:{free_port()}", "--num-processes", 2, "--process-id"]
    log = tmp_path / "log-two"
    finish(start(Layout(2, 1), [[*script, tmp_path / "two", *pod, i] for i in range(2)], log), log)
    log = tmp_path / "log-one"
    finish(start(Layout(1, 2), [[*script, tmp_path / "one", "--placement", "data"]], log), log)
    (found,), (expected,) = ((tmp_path / name).glob(f"{experiment}-*") for name in ("two", "one"))
    assert (found / "metrics.jsonl").read_text() == (expected / "metrics.jsonl").read_text()
    subsets = [path.relative_to(expected) for path in expected.glob("**/*sets/**/*.json")]
    assert len(subsets) >= 3
    assert [(found / path).read_text() for path in subsets] == [(expected / path).read_text() for path in subsets]
