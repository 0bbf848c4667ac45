"""Files of weights: names, dtypes and bits, dense and packed."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxticket as jt
from jaxticket import export, masks
from jaxticket.errors import CheckpointError, InputError, MissingExtraError, StructureError

KEYS = jax.random.split(jax.random.key(0), 3)
WEIGHTS = {
    "first": {"kernel": jax.random.normal(KEYS[0], (7, 13)), "bias": jnp.arange(13.0)},
    "conv": [jax.random.normal(KEYS[1], (3, 3, 2, 9)).astype(jnp.bfloat16), None],
    "count": jnp.int32(3),
    "empty": jnp.zeros((0, 3)),
}


def half(seed, shape):
    return jax.random.bernoulli(jax.random.key(seed), 0.3, shape)


MASK = {
    "first": {"kernel": half(0, (7, 13)), "bias": None},
    "conv": [half(1, (1, 1, 2, 9)), None],
    "count": None,
    "empty": jnp.ones((0, 3), bool),
}


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_dense_weights_return_with_their_bits(tmp_path):
    path = tmp_path / "new" / "w.safetensors"
    export.save_weights(path, WEIGHTS)
    assert_same(export.load_weights(path, like=WEIGHTS), WEIGHTS)
    assert_same(export.load_weights(path, like=jax.eval_shape(lambda: WEIGHTS)), WEIGHTS)
    flat = export.load_weights(path)
    assert sorted(flat) == ["conv/0", "count", "empty", "first/bias", "first/kernel"]
    assert_same(flat["conv/0"], WEIGHTS["conv"][0])


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "float32"]
)
def test_every_dtype(tmp_path, dtype):
    weights = {"w": (jnp.arange(10) - 3).astype(dtype)}
    export.save_weights(tmp_path / "w", weights)
    export.save_weights(tmp_path / "packed", weights, mask={"w": jnp.arange(10) > 4})
    assert_same(export.load_weights(tmp_path / "w"), weights)
    assert_same(export.load_weights(tmp_path / "packed")["w"], jnp.where(jnp.arange(10) > 4, weights["w"], False))


def test_packed_weights_are_the_masked_ones_in_their_bits(tmp_path):
    export.save_weights(tmp_path / "w", WEIGHTS, mask=MASK)
    assert_same(export.load_weights(tmp_path / "w", like=WEIGHTS), jt.apply_mask(WEIGHTS, MASK))


def test_a_packed_file_is_small_and_numpy_unpacks_it_as_documented(tmp_path):
    weights, mask = {"w": jnp.ones((256, 250))}, {"w": half(2, (256, 250))}
    export.save_weights(tmp_path / "w", weights, mask=mask)
    kept = int(mask["w"].sum())
    assert (tmp_path / "w").stat().st_size < 4 * kept + 256 * 32 + 300
    stored = load_file(tmp_path / "w")
    assert sorted(stored) == ["w.bits", "w.values"]
    assert np.array_equal(stored["w.bits"], masks.pack(mask)["w"].bits)
    unpacked = np.unpackbits(stored["w.bits"], axis=-1, count=250).astype(bool)
    w = np.zeros(unpacked.shape, stored["w.values"].dtype)
    w[unpacked] = stored["w.values"]
    assert np.array_equal(w, jt.apply_mask(weights, mask)["w"])


def test_arrays_in_another_order_in_memory_and_of_numpy(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T
    export.save_weights(tmp_path / "w", {"w": x, "scalar": np.float32(2)})
    assert_same(export.load_weights(tmp_path / "w"), {"w": jnp.asarray(x), "scalar": jnp.float32(2)})


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"w": "text"}, "'w' is a str"),
        ({"a/b": jnp.ones(2), "a": {"b": jnp.ones(2)}}, "several arrays are called 'a/b'"),
        ({"w": jnp.ones(2), "key": jax.random.key(0)}, "'key' has dtype key"),
        ({"w": jnp.ones(2, jnp.int4)}, "'w' has dtype int4"),
        ({"__metadata__": jnp.ones(2)}, "'__metadata__' is a reserved name"),
        ({}, "variables holds no arrays"),
    ],
)
def test_what_cannot_be_saved(tmp_path, weights, words):
    with pytest.raises(InputError, match=words):
        export.save_weights(tmp_path / "w", weights)
    assert not list(tmp_path.iterdir())


def test_masks_that_do_not_fit(tmp_path):
    with pytest.raises(StructureError, match="mask at 'w' has shape"):
        export.save_weights(tmp_path / "w", {"w": jnp.ones(2)}, mask={"w": jnp.ones(3, bool)})
    weights = {"w": jnp.ones(2), "w.bits": jnp.ones(2)}
    with pytest.raises(InputError, match=r"'w\.bits' is also what the packed 'w' is stored as"):
        export.save_weights(tmp_path / "w", weights, mask={"w": jnp.ones(2, bool), "w.bits": None})
    assert not list(tmp_path.iterdir())


def damaged(content):
    yield content[:20]
    yield content[:-3]
    yield b""
    yield b"\xff" * 64
    for old, new in (
        (b'"BF16"', b'"F7E1"'),
        (b'\\"w\\": 9', b'\\"v\\": 9'),
        (b'\\"w\\": 9', b'\\"w\\": 1'),
        (b"{\\", b"[\\"),
        (b"\x04\x00", b"\xff\x80"),  # more bits than values
    ):
        assert old in content
        yield content.replace(old, new)


def test_a_file_that_is_missing_or_damaged(tmp_path):
    path = tmp_path / "w"
    with pytest.raises(CheckpointError, match="cannot be read"):
        export.load_weights(path)
    export.save_weights(path, {"w": jnp.ones(9), "v": jnp.ones(2, jnp.bfloat16)}, mask={"w": half(0, 9), "v": None})
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="does not hold weights"):
            export.load_weights(path)


def test_nested_text_in_the_metadata_is_refused(tmp_path):
    save_file({"w": np.ones(2)}, tmp_path / "w", metadata={"packed": "[" * 100_000})
    with pytest.raises(CheckpointError, match="does not hold weights"):
        export.load_weights(tmp_path / "w")


def test_files_of_others_and_another_network(tmp_path):
    save_file({"w": np.ones((2, 3), np.float32)}, tmp_path / "w")
    like = {"w": jnp.ones((2, 3))}
    assert_same(export.load_weights(tmp_path / "w", like=like), like)
    with pytest.raises(CheckpointError, match=r"'w' has shape \(2, 3\), not \(3, 2\)"):
        export.load_weights(tmp_path / "w", like={"w": jnp.ones((3, 2))})
    with pytest.raises(CheckpointError, match="only like has 'v'"):
        export.load_weights(tmp_path / "w", like={**like, "v": jnp.ones(2)})


def test_without_safetensors(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(MissingExtraError, match=r"jaxticket\[export\]"):
        export.save_weights(tmp_path / "w", WEIGHTS)
    with pytest.raises(MissingExtraError, match=r"jaxticket\[export\]"):
        export.load_weights(tmp_path / "w")
    assert not list(tmp_path.iterdir())
