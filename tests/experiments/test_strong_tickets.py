"""Strong tickets: weights that nothing moves, renewals that are due, kept cells, and a killed run's same numbers."""

import functools
import html
import json
import re
import shlex
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxticket as jt
from experiments import strong_tickets
from experiments.runs import command_line
from experiments.studies.strong import search
from experiments.training import problems
from experiments.training.trainer import Lane
from jaxticket import reparam, tickets
from jaxticket.registry import Setting
from tests.cheap import cheap  # noqa: F401  # used by every test here

RECYCLING = "edge_popup+recycling"
SMALL = ["--methods", RECYCLING, "--epochs", "3", "--densities", "0.2", "--seeds", "2", "--placement", "map"]
WIDTH = ["--widths", "4"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    assert strong_tickets.main([*SMALL, *WIDTH, "--out", str(out)]) == 0
    (run,) = out.iterdir()
    return run


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def ticket(run, record):
    cell = search.Cell(record["method"], record["density"], record["seed"])
    return jt.load(cell.path(run / f"width_{record['width']}"))


@pytest.mark.slow
def test_weights_are_chosen_and_not_trained(finished):
    """Every kept weight is one of the first weights of its leaf."""
    found = records(finished)
    assert [(r["width"], r["method"], r["density"], r["seed"]) for r in found] == [
        (4, method, density, seed) for method, density in (("dense", 1.0), (RECYCLING, 0.2)) for seed in (0, 1)
    ]
    for record in found:
        got, first = ticket(finished, record), weights_of(record["seed"])
        assert float(jt.density(got.params, got.mask)) == pytest.approx(record["kept"])
        assert record["kept"] == pytest.approx(record["density"], abs=1e-3)
        for name, layer in got.params.items():
            kept = np.asarray(layer["kernel"])[np.asarray(got.mask[name]["kernel"])]
            drawn = np.isin(kept, np.asarray(first[name]["kernel"]))
            assert drawn.all() if record["method"] == RECYCLING else not drawn.all()


@functools.cache
def weights_of(seed):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), seed), 3)
    return init()(keys[0])[0]


@functools.cache
def init():
    return search.trainer(search.Config(), 4).basis.init


@pytest.mark.slow
def test_the_report(finished):
    results = json.loads((finished / "results.json").read_text())
    assert [*results] == ["dense, width 4", f"{RECYCLING}, width 4"]
    mine = [r["test_accuracy"] for r in records(finished) if r["method"] == RECYCLING]
    row = results[f"{RECYCLING}, width 4"][0]
    assert row["test_accuracy"]["mean"] == pytest.approx(sum(mine) / 2)
    assert f"{100 * row['test_accuracy']['mean']:.2f} ±" in (finished / "table.txt").read_text()
    assert (finished / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    (command,) = re.findall(r"<pre>(.*)</pre>", (finished / "report.html").read_text())
    script, *flags = shlex.split(html.unescape(command))[1:]
    assert script == "experiments/strong_tickets.py"
    again = command_line.training_config(search.Config(), flags, strong_tickets.PRESETS, description="")
    assert again.folder() == finished


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(finished, tmp_path, monkeypatch):
    """Killed after the second of three epochs, when weights were recycled twice."""
    arguments = [*SMALL, *WIDTH, "--checkpoint-seconds", "0", "--out", str(tmp_path)]
    dense = f"{finished.name}/width_4/cells/dense"
    shutil.copytree(finished.parent / dense, tmp_path / dense)
    shutil.copy(finished / "config.json", tmp_path / finished.name)
    save = tickets.StepCheckpoint.save

    def saved(self, origin, ticket, values):
        save(self, origin, ticket, values)
        if ticket.step == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tickets.StepCheckpoint, "save", saved)
        with pytest.raises(SystemExit):
            strong_tickets.main(arguments)
    assert strong_tickets.main(arguments) == 0
    assert records(tmp_path / finished.name) == records(finished)


def test_signed_supermasks_begin_with_the_density():
    setting = Setting(0.25, 10, None, None, None, [])
    method = search.Cell("signed_supermask", 0.25, 0).make(setting)
    latent = method.init({"kernel": jnp.ones((40, 40))}, key=jax.random.key(0))
    assert float(jt.density(latent.weights, method.mask(latent, count=0))) == pytest.approx(0.25, abs=0.04)


def test_signed_supermasks_have_their_authors_optimizer():
    """Its decay is not times the rate, and both fall by a tenth every ten epochs."""
    rate, score = optax.constant_schedule(0.1), jnp.float32(1.0)

    def trace(method, gradients):
        tx = search.Cell(method, 0.5, 0).optimizer(search.Config(), rate, epoch=3)
        state, s, found = tx.init(score), score, []
        for gradient in gradients:
            updates, state = tx.update(jnp.float32(gradient), state, s)
            s += updates
            found.append(float(s))
        return found

    zeros = trace("signed_supermask", [0.0] * 31)
    assert zeros[0] == pytest.approx(1 - 3e-4, abs=1e-7)
    assert zeros[30] / zeros[29] == pytest.approx(1 - 0.9 * 3e-4, abs=1e-6)
    assert trace("signed_supermask", [1.0]) == pytest.approx([1 - 3e-4 - 1.9 * 0.05], abs=1e-6)
    assert trace("edge_popup", [0.0]) == pytest.approx([1 - 0.1 * 5e-4], abs=1e-7)


def test_renewals_are_due_until_the_end_and_leave_what_is_realised():
    config = search.Config(epochs=10)
    basis = problems.basis(config)
    method = reparam.edge_popup(0.5)
    params = reparam.kaiming_normal({"kernel": jnp.zeros((20, 10))}, key=jax.random.key(0))
    lane = Lane(
        method.init(params, key=jax.random.key(1)), (None, jnp.int32(0), jnp.float32(0.5)), (), jax.random.key(2)
    )
    epoch = basis.recipe.steps_per_epoch
    due = {"edge_popup+recycling": [*range(1, 10)], "edge_popup+iterand": [*range(1, 10)]}
    for name, renew in search.renewals(config, basis).items():
        renewed = [jax.jit(renew)(lane, jnp.int32(step)) for step in range(epoch, 10 * epoch, epoch)]
        changed = [i for i, new in enumerate(renewed, 1) if (new.params.weights["kernel"] != params["kernel"]).any()]
        assert changed == due[name]
        for new in renewed:
            np.testing.assert_array_equal(
                method.realise(new.params, count=0)["kernel"], method.realise(lane.params, count=0)["kernel"]
            )


def test_dry_runs_print_plans_and_write_nothing(tmp_path, capsys):
    assert strong_tickets.main([*SMALL, "--widths", "4,6", "--out", str(tmp_path / "runs"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "4 trainings, 0 of them finished" in printed
    assert "width 6" in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "edgepopup"], "edgepopup"),
        (["--densities", "0.1,1"], "--densities is (0.1, 1.0), but must be between 0 and 1"),
        (["--widths", "0"], "--widths is (0,), but must be at least 1"),
        (["--widths", "4,4"], "--widths is (4, 4), but must be different values"),
        (["--seeds", "0"], "--seeds is 0, but must be at least 1"),
        (["--weights", "zeros"], "zeros"),
    ],
)
def test_bad_flags(arguments, words, capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        strong_tickets.main([*arguments, "--out", str(tmp_path / "runs")])
    message = capsys.readouterr().err
    assert end.value.code == 2
    assert message.startswith("error: ")
    assert words in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())
