"""The examples: short, sparse by a few marked lines, exact to the end, and dense trainings without these lines."""

import contextlib
import functools
import io
import pathlib
import re
import runpy
import sys

import jax
import numpy as np
import pytest

import jaxticket as jt
from jaxticket.errors import InputError
from tests.tiers import sample

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "examples"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}
OURS = re.compile(r"\bjt\.|\bjaxticket\b")
STEPS = {
    "equinox_mlp": 30,
    "haiku_gru": 40,
    "linen_batch_norm": 6,
    "nnx_optimizer": 12,
    "ppo_seeds": 25,
    "scanned_lm": 8,
}
EACH = pytest.mark.parametrize("name", FILES)


def ours(text):
    return [line for line in text.splitlines() if OURS.search(line)]


@functools.cache
def main(name, *, without_us=False):
    """The `main` of an example, or what is left of it when our lines are deleted."""
    text = FILES[name].read_text()
    if without_us:
        text = "\n".join(line for line in text.splitlines() if not OURS.search(line))
    names = {"__name__": name}
    exec(compile(text, str(FILES[name]), "exec"), names)
    return names["main"]


def run(name, *arguments, **others):
    return main(name, **others)(["--steps", str(STEPS[name]), *arguments])


@functools.cache
def printed_and_trained(name):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        end = run(name)
    return printed.getvalue(), end


def trained(name):
    return printed_and_trained(name)[1]


def outside(params, opt_state):
    """The weights outside the mask; replicates have a leading axis in both."""
    return int(jt.masks.outside(params, jt.mask_of(opt_state)))


@EACH
def test_an_example_is_short_and_few_of_its_lines_are_ours(name):
    text = FILES[name].read_text()
    assert len(text.splitlines()) <= 120
    assert 3 <= len(ours(text)) <= 6
    assert sum("import jaxticket as jt" in line for line in ours(text)) == 1
    assert f"python examples/{name}.py" in text


@EACH
def test_help_lists_the_steps_and_the_density(name, capsys):
    with pytest.raises(SystemExit) as end:
        main(name)(["--help"])
    assert end.value.code == 0
    assert {"--steps", "--density"} <= set(re.findall(r"--\w+", capsys.readouterr().out))


@EACH
def test_it_learns_and_ends_with_exact_zeros_at_its_density(name):
    losses, params, opt_state = trained(name)
    assert len(losses) == STEPS[name]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    mask = jt.mask_of(opt_state)
    assert outside(params, opt_state) == 0
    (wanted,) = re.findall(r'"--density", type=float, default=([\d.]+)', FILES[name].read_text())
    kept, size = (sum(int(x) for x in xs) for xs in zip(*((m.sum(), m.size) for m in jax.tree.leaves(mask))))
    assert kept / size == pytest.approx(float(wanted), rel=0.01)
    zeros = [p[~m] for p, m in zip(jax.tree.leaves(params), jt._tree.leaves(mask)) if m is not None]
    assert sum(z.size for z in zeros) > 1000


@pytest.mark.parametrize("name", sample(FILES, ("equinox_mlp", "scanned_lm")))
def test_without_our_lines_it_trains_densely(name):
    losses, params, opt_state = run(name, without_us=True)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    with pytest.raises(InputError, match="sparsify"):
        jt.mask_of(opt_state)
    assert jax.tree.structure(params) == jax.tree.structure(trained(name)[1])


@EACH
def test_it_prints_progress_and_at_last_the_density(name):
    *progress, last = printed_and_trained(name)[0].splitlines()
    assert len(progress) >= 5
    assert all(re.match(r"compiled$|(step|update) +\d", line) for line in progress)
    assert re.match(r"density \d\.\d", last)


def test_it_runs_as_a_script(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["haiku_gru.py", "--steps", "1"])
    runpy.run_path(str(FILES["haiku_gru"]), run_name="__main__")
    assert "density" in capsys.readouterr().out


def test_pmap_and_a_mesh_train_the_same_network():
    losses, params, opt_state = run("linen_batch_norm", "--parallelism", "pmap")
    np.testing.assert_allclose(losses, trained("linen_batch_norm")[0], rtol=2e-3)
    assert outside(params, opt_state) == 0


def test_seeds_have_masks_of_their_own():
    _, _, opt_state = trained("ppo_seeds")
    kernels = jt.mask_of(opt_state)["second"]["kernel"]
    assert len({np.asarray(mask).tobytes() for mask in kernels}) == len(kernels) == 4


def test_each_layer_of_the_scan_has_the_density():
    mask = jt.mask_of(trained("scanned_lm")[2])
    for kernel in (mask["blocks"][name]["kernel"] for name in ("qkv", "out", "up", "down")):
        assert [int(layer.sum()) for layer in kernel] == [kernel[0].size // 4] * 4


def test_the_language_model_is_split_along_both_axes_of_a_mesh():
    losses, params, opt_state = run("scanned_lm", "--model", "2")
    np.testing.assert_allclose(losses, trained("scanned_lm")[0], rtol=2e-3)
    kernel, mask = params["blocks"]["up"]["kernel"], jt.mask_of(opt_state)["blocks"]["up"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == mask.sharding.shard_shape(mask.shape) == (4, 64, 128)


def test_a_killed_language_model_resumes_to_the_same_bits(tmp_path, capsys):
    losses, params, opt_state = run("scanned_lm", "--every", "3", "--folder", str(tmp_path))
    (tmp_path / "6").rename(tmp_path / "gone")
    resumed = run("scanned_lm", "--every", "3", "--folder", str(tmp_path))
    assert "resumed at step 3" in capsys.readouterr().out
    assert resumed[0] == losses[3:]
    jax.tree.map(np.testing.assert_array_equal, resumed[1:], (params, opt_state))
