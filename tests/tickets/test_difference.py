"""Sparse differences: taken, added, composed, saved and refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxticket.errors import CheckpointError, InputError, StructureError
from jaxticket.tickets import load_difference, save_difference, take_difference

BASE = {
    "layer": {"kernel": jnp.arange(12.0).reshape(3, 4), "bias": jnp.ones(4)},
    "head": {"kernel": jnp.zeros((4, 2), jnp.bfloat16)},
    "scalar": jnp.float32(3.0),
}
MASK = {
    "layer": {"kernel": jnp.arange(12).reshape(3, 4) % 5 == 3, "bias": jnp.ones((1,), bool)},
    "head": {"kernel": None},
    "scalar": jnp.array(True),
}


def tuned(seed):
    draw = np.random.default_rng(seed)
    move = lambda p, m: p + jnp.asarray(draw.normal(size=p.shape), p.dtype) * (1 if m is None else m)
    return jax.tree.map(move, BASE, MASK, is_leaf=lambda x: x is None)


def take(seed=0):
    return take_difference(BASE, tuned(seed), MASK)


def assert_close(a, b):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), a, b)


def test_it_is_small_and_gives_the_tuned_parameters():
    difference = take()
    assert difference.entries == 2 + 4  # of the kernel two, 3 and 8
    assert [axis.tolist() for axis in difference.places["layer/kernel"]] == [[0, 2], [3, 0]]
    assert sorted(difference.whole) == ["head/kernel", "scalar"]
    assert_close(difference.add_to(BASE), tuned(0))
    assert_close(jax.jit(difference.add_to)(BASE), tuned(0))
    back = difference.add_to(difference.add_to(BASE), scale=-1.0, whole=False)
    assert_close(back["layer"], BASE["layer"])
    # What lies outside the mask has the same bits.
    kernel, before = difference.add_to(BASE)["layer"]["kernel"], BASE["layer"]["kernel"]
    assert (kernel == before)[~MASK["layer"]["kernel"]].all()


def test_differences_are_added_in_any_order():
    a, b = take(0), take(1)
    assert_close(a.add_to(b.add_to(BASE), whole=False)["layer"], b.add_to(a.add_to(BASE), whole=False)["layer"])
    both = a.add_to(b.add_to(BASE))["layer"]
    expected = jax.tree.map(lambda x, y, z: x + y - z, tuned(0), tuned(1), BASE)["layer"]
    assert_close(both, expected)


def test_entries_that_did_not_change_are_left_out():
    same = take_difference(BASE, BASE, MASK)
    assert (same.entries, same.whole) == (0, {})
    assert_close(same.add_to(BASE), BASE)


def test_a_file_has_values_and_indices(tmp_path):
    difference, path = take(), tmp_path / "folder" / "tuning.safetensors"
    save_difference(path, difference)
    content = load_file(path)
    assert content["layer/kernel.indices"].tolist() == [3, 8]
    assert content["layer/kernel.indices"].dtype == np.int32
    np.testing.assert_allclose(content["layer/kernel.values"], difference.values["layer/kernel"])
    loaded = load_difference(path)
    assert_close(loaded.add_to(BASE), tuned(0))
    assert loaded.add_to(BASE)["head"]["kernel"].dtype == jnp.bfloat16
    assert path.stat().st_size < 1000
    save_difference(path, take_difference(BASE, BASE, MASK))
    assert load_difference(path).entries == 0


def test_damaged_files(tmp_path):
    path = tmp_path / "tuning.safetensors"
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_difference(path)
    save_file({"w": np.zeros(3, np.float32)}, path)
    with pytest.raises(CheckpointError, match="does not hold a difference"):
        load_difference(path)
    save_difference(path, take())
    content = path.read_bytes()
    for cut in (4, 60, len(content) - 3):
        path.write_bytes(content[:cut])
        with pytest.raises(CheckpointError):
            load_difference(path)
    save_file(
        {"w.indices": np.array([9], np.int32), "w.values": np.zeros(1, np.float32)}, path, {"shapes": '{"w": [2, 2]}'}
    )
    with pytest.raises(CheckpointError, match="does not hold a difference"):
        load_difference(path)


def test_errors():
    with pytest.raises(InputError, match="'layer/kernel' differs from base outside the mask"):
        take_difference(BASE, jax.tree.map(lambda p: p + 1, BASE), MASK)
    with pytest.raises(StructureError):
        take_difference(BASE["layer"], tuned(0), MASK)
    with pytest.raises(InputError, match="'head/kernel' is missing"):
        take().add_to({name: BASE[name] for name in ("layer", "scalar")})
    take().add_to({name: BASE[name] for name in ("layer", "scalar")}, whole=False)
    with pytest.raises(InputError, match=r"'scalar' has shape \(2,\)"):
        take().add_to({**BASE, "scalar": jnp.zeros(2)})
