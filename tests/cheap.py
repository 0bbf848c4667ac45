"""Whole runs of experiments as tests: on data that are easy to tell apart, compiled once and quickly."""

import jax
import numpy as np
import pytest

from experiments.training import problems
from experiments.training.trainer import Trainer
from jaxticket import data, models


def blobs(*, seed, validation, test):
    """Ten classes that are easy to tell apart, 300 examples of each split, with as many values as the digits."""
    rng = np.random.default_rng(0)
    y = np.arange(900) % 10
    x = rng.normal(size=(10, 784))[y] + 2 * rng.normal(size=(900, 784))
    return data.stratified(x, y, seed=seed, validation=300, test=300)


def small_model(config, dataset, width=None):
    """A network of 20 units, unless another width is asked for."""
    return models.lenet_300_100(width=20 if width is None else width)


@pytest.fixture(scope="module", autouse=True)
def cheap(tmp_path_factory):
    """Compiling is nearly all the time that these runs take: once and quickly, for a small network.

    For every test of a file that imports it.
    """
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_disable_most_optimizations": True,
    }
    before = {name: jax.config.values[name] for name in options}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(data, "mnist5k", blobs)
        patched.setattr(problems, "make_model", small_model)
        for name, value in options.items():
            jax.config.update(name, value)
        yield
    for name, value in before.items():
        jax.config.update(name, value)


def run_noted(main, flags, out):
    """Run an experiment: the folder of the run, and the first step and the number of steps of each of its trainings."""
    noted, train = [], Trainer.train

    def note(self, lanes, *, steps, step=0):
        noted.append((step, steps))
        return train(self, lanes, steps=steps, step=step)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "train", note)
        assert main([*flags, "--out", str(out)]) == 0
    (run,) = out.iterdir()
    return run, noted


def check_trains_nothing(main, flags, run):
    """A finished run that starts again trains nothing and keeps its records."""
    before = (run / "metrics.jsonl").read_text()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "train", None)
        assert main([*flags, "--out", str(run.parent)]) == 0
    assert (run / "metrics.jsonl").read_text() == before


def check_is_refused(main, flags, tmp_path, capsys):
    """A bad flag is named before anything is written."""
    with pytest.raises(SystemExit):
        main([*flags, "--out", str(tmp_path / "runs")])
    assert capsys.readouterr().err.startswith(f"error: {flags[0]} is")
    assert not list(tmp_path.iterdir())
