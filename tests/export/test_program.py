"""A saved program runs in a process that has jax and not jaxticket, with the same logits."""

import os
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from jaxticket import export
from jaxticket.errors import CheckpointError, InputError, MissingExtraError
from tests.export._networks import EACH, GROUPS, KEPT, PARAMS, RUN, SMALLER, X, apply

ALONE = """
import sys
sys.modules["jaxticket"] = None  # importing it raises
sys.modules["flax"] = None
import numpy as np
from jax import export
from safetensors.flax import load_file
x = np.load("x.npy")
for name, sizes in (("fixed", [5]), ("any", [1, 5])):
    program = export.deserialize(bytearray(open(f"{name}.jax", "rb").read()))
    for size in sizes:
        np.save(f"{name}{size}.npy", program.call(load_file(f"{name}.safetensors"), x[:size]))
assert [name for name in sys.modules if name.startswith("jaxticket")] == ["jaxticket"]
"""
NARROW = jax.tree.map(lambda x: x.astype(jnp.bfloat16), SMALLER)
ANY = jax.ShapeDtypeStruct(jax_export.symbolic_shape("batch, 8"), jnp.float32)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder in which a process that has no jaxticket ran two programs."""
    folder = tmp_path_factory.mktemp("alone")
    export.save_program(folder / "fixed.jax", RUN, SMALLER, X)
    export.save_weights(folder / "fixed.safetensors", SMALLER)
    export.save_program(folder / "any.jax", EACH, NARROW, ANY)
    export.save_weights(folder / "any.safetensors", NARROW)
    np.save(folder / "x.npy", X)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", ALONE]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_replayed_program_runs_without_jaxticket(alone):
    assert 0 < sum(kept.sum() for kept in KEPT.values()) < sum(g.width for g in GROUPS)
    np.testing.assert_allclose(np.load(alone / "fixed5.npy"), jax.jit(RUN)(SMALLER, X), rtol=1e-6)


@pytest.mark.parametrize("size", [1, 5])
def test_a_program_of_any_batch_size_in_bfloat16_runs_without_jaxticket(alone, size):
    logits = np.load(alone / f"any{size}.npy")
    np.testing.assert_allclose(logits, jax.jit(EACH)(NARROW, X[:size]), rtol=1e-6)
    np.testing.assert_allclose(logits, jax.jit(RUN)(SMALLER, X[:size]), rtol=0.1, atol=0.1)


def test_nothing_is_left_beside_the_files(alone):
    names = {"any.jax", "any.safetensors", "fixed.jax", "fixed.safetensors"}
    assert {path.name for path in alone.iterdir() if path.suffix != ".npy"} == names


def test_weights_on_a_mesh_make_a_program_of_a_single_device(tmp_path):
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    params = {**PARAMS, "first": jax.device_put(PARAMS["first"], place)}
    export.save_program(tmp_path / "dense.jax", apply, params, X)
    assert load(tmp_path / "dense.jax").nr_devices == 1
    export.save_weights(tmp_path / "w", params)
    assert np.array_equal(export.load_weights(tmp_path / "w")["first/kernel"], PARAMS["first"]["kernel"])


def load(path):
    return jax_export.deserialize(bytearray(path.read_bytes()))


def test_weights_are_arguments_and_the_order_of_their_names_does_not_matter(tmp_path):
    export.save_program(tmp_path / "new" / "dense.jax", apply, PARAMS, X, platforms=("cpu", "cuda"))
    program = load(tmp_path / "new" / "dense.jax")
    assert program.platforms == ("cpu", "cuda")
    twice = jax.tree.map(lambda x: 2 * x, PARAMS)
    weights = {
        "head/kernel": twice["head"]["kernel"],
        "first/kernel": twice["first"]["kernel"],
        "first/bias": twice["first"]["bias"],
    }
    np.testing.assert_allclose(program.call(weights, X), jax.jit(apply)(twice, X), rtol=1e-6)
    assert len((tmp_path / "new" / "dense.jax").read_bytes()) < 20_000  # none of the weights is inside


def test_shapes_are_enough_and_nothing_is_computed(tmp_path):
    shapes = jax.eval_shape(lambda: PARAMS)
    export.save_program(tmp_path / "dense.jax", apply, shapes, jax.ShapeDtypeStruct(X.shape, X.dtype))
    export.save_program(tmp_path / "arrays.jax", apply, PARAMS, X)
    assert load(tmp_path / "dense.jax").in_avals == load(tmp_path / "arrays.jax").in_avals


class Logits(NamedTuple):
    logits: jax.Array


def broken(params, x):
    raise KeyError("the user's own")


@pytest.mark.parametrize(
    ("run", "variables", "inputs", "options", "words"),
    [
        (RUN, SMALLER, (jax.ShapeDtypeStruct(jax_export.symbolic_shape("b, 8"), "float32"),), {}, "symbols.*vmap"),
        (apply, PARAMS, (X,), {"platforms": "cpu"}, "platforms is 'cpu'"),
        (apply, PARAMS, (X,), {"platforms": ["gpu"]}, r"platforms is \['gpu'\].*cuda"),
        (apply, PARAMS, ("text",), {}, "inputs holds something that is not an array"),
        (apply, {"first": "text"}, (X,), {}, "'first' is a str"),
        (apply, {}, (X,), {}, "variables holds no arrays"),
        (lambda v, x: x, {"a/b": X, "a": {"b": X}}, (X,), {}, "several arrays are called 'a/b'"),
        (lambda v, x: Logits(x), PARAMS, (X,), {}, "dicts, lists and tuples"),
    ],
)
def test_bad_input(tmp_path, run, variables, inputs, options, words):
    with pytest.raises(InputError, match=words):
        export.save_program(tmp_path / "ticket.jax", run, variables, *inputs, **options)
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_function_itself_stays_as_it_is(tmp_path):
    with pytest.raises(KeyError, match="the user's own"):
        export.save_program(tmp_path / "ticket.jax", broken, PARAMS, X)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        export.save_program(tmp_path / "file" / "ticket.jax", apply, PARAMS, X)


def test_without_flatbuffers(tmp_path, monkeypatch):
    def serialize(exported):
        raise ImportError("Please install 'flatbuffers' in order to use Exported serialization")

    monkeypatch.setattr(jax_export.Exported, "serialize", serialize)
    with pytest.raises(MissingExtraError, match=r"flatbuffers.*jaxticket\[export\]"):
        export.save_program(tmp_path / "ticket.jax", apply, PARAMS, X)
    assert not list(tmp_path.iterdir())
