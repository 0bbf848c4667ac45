"""Structured tickets: every branch trains at the widths of its budget, and a finished run trains nothing."""

import json

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.flax import load_file

import jaxticket as jt
from experiments import structured
from experiments.claims.record import HOLDS
from experiments.runs.records import LevelRecord
from experiments.studies.structured.choices import choice, cost
from experiments.studies.structured.config import Config
from experiments.studies.structured.study import claims, traced
from experiments.training import problems
from jaxticket import models, structure, tickets
from jaxticket.errors import InputError
from jaxticket.structure import _latency
from tests.cheap import cheap, check_is_refused, check_trains_nothing, run_noted  # noqa: F401  # cheap: by every test

BRANCHES = Config().branches()
FLAGS = ["--epochs", "4", "--kept", "0.5", "--seeds", "2", "--placement", "map"]
TICKET = "ticket_obspa_macs_0.5"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, and the first step and the number of steps of each of its trainings."""
    return run_noted(structured.main, FLAGS, tmp_path_factory.mktemp("runs"))


def test_every_branch_is_fine_tuned_at_half_the_multiply_adds(trained):
    run, steps = trained
    assert steps == [(0, 20), (15, 5), (15, 5), (15, 5)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(line["branch"], line["replicate"]) for line in lines] == [(b, seed) for b in BRANCHES for seed in (0, 1)]
    load = lambda *parts: jt.load(tickets.Store(run.joinpath(*parts)).path(0))
    macs = lambda params: sum(layer["kernel"].size for layer in params.values())
    dense = load("seed_0", "macs_1.0", "dense").params
    kept = {name: load("seed_0", "macs_0.5", name).params for name in BRANCHES[1:]}
    for params in kept.values():
        assert 0.4 < macs(params) / macs(dense) <= 0.5
    # Random channels are others, and OBSPA changes the weights that stay.
    surgeon, sizes, random = kept.values()
    assert not all(map(np.array_equal, jax.tree.leaves(sizes), jax.tree.leaves(random)))
    assert not np.array_equal(surgeon["output"]["kernel"], sizes["output"]["kernel"])


def test_the_smallest_ticket_is_exported(trained):
    run, _ = trained
    program = jax.export.deserialize(bytearray((run / TICKET / "program.jax").read_bytes()))
    weights = load_file(run / TICKET / "weights.safetensors")
    ticket, x = jt.load(tickets.Store(run / "seed_1" / "macs_0.5" / "obspa").path(0)), jnp.ones((3, 784))
    assert weights["params/output/kernel"].shape == ticket.params["output"]["kernel"].shape
    model = models.lenet_300_100(width=20)
    params = {
        layer: {name: weights[f"params/{layer}/{name}"] for name in leaves} for layer, leaves in ticket.params.items()
    }
    expected, _ = model.apply(params, None, x, train=False, key=None)
    np.testing.assert_allclose(program.call(weights, x), expected, rtol=1e-5, atol=1e-5)
    assert "multiply-adds" in (run / TICKET / "report.html").read_text()


def test_a_finished_run_trains_nothing(trained):
    check_trains_nothing(structured.main, FLAGS, trained[0])


@pytest.mark.parametrize("counts", ["macs", "params", "channels", "latency"])
@pytest.mark.parametrize("method", ["magnitude", "snip", "fisher", "random", "udfc"])
def test_every_method_fits_every_budget(method, counts, tmp_path, monkeypatch):
    entries = lambda run, *arrays: float(sum(x.size for x in jax.tree.leaves(arrays)))
    monkeypatch.setattr(_latency, "seconds", entries)  # a clock that no other program disturbs
    config = Config(methods=(method,), cost=counts, multiple=2, out=tmp_path)
    basis = problems.basis(config)
    groups, (params, state) = traced(basis), basis.init(jax.random.key(0))
    counted, variables = cost(config, basis, groups), {"params": params, "state": state}
    budget, ways = structure.Budget(0.9, counted), choice(method, config, basis, groups)
    same, kept = ways(variables, budget, jax.random.key(1))
    assert (same is variables) == (method != "udfc")
    assert {name: int(channels.sum()) % 2 for name, channels in kept.items()} == dict.fromkeys(kept, 0)
    counted = counted or (lambda kept: sum(channels.sum() for channels in kept.values()))
    whole = {name: np.ones_like(channels) for name, channels in kept.items()}
    assert counted(kept) <= 0.9 * counted(whole)
    assert len(list(tmp_path.glob("*/latency.json"))) == (counts == "latency")


def test_processes_do_not_choose_by_times_of_their_own(tmp_path, monkeypatch):
    """Each would remove other channels, and wait for the others for ever."""
    config = Config(cost="latency", out=tmp_path)
    basis = problems.basis(config)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match="--cost is latency, but must be another in several processes"):
        cost(config, basis, traced(basis))


def test_claims():
    accuracies = {"group_magnitude": 0.9, "obspa": 0.85, "random": 0.88}
    records = [
        LevelRecord({"test_accuracy": accuracy + 1e-4 * seed}, seed, 0, branch, 0.5, [])
        for branch, accuracy in accuracies.items()
        for seed in range(3)
    ]
    by_surgeon, by_size = claims(Config(), records)
    assert (round(by_size.value, 2), round(by_surgeon.value, 2)) == (2.0, -3.0)
    assert (by_size.verdict == HOLDS, by_surgeon.verdict == HOLDS) == (True, False)


@pytest.mark.parametrize(
    "flags",
    [["--kept", "0.2,1"], ["--kept", "0.2,0.2"], ["--methods", "snip,snip"], ["--multiple", "0"], ["--seeds", "0"]],
)
def test_bad_flags(flags, tmp_path, capsys):
    check_is_refused(structured.main, flags, tmp_path, capsys)
