"""Folders of transformers: what is read, what is written back, and how much of it is in memory.

The files are made by the library safetensors from the names of transformers, and outputs are those of transcriptions
in numpy. `test_transformers.py` asks transformers itself.
"""

import functools
import json
import re
import tracemalloc

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxticket as jt
from jaxticket import models
from jaxticket.errors import CheckpointError, InputError
from tests.conformance.drivers import COMPILER
from tests.models import transcriptions
from tests.models.transcriptions import CONFIGS, draw, save

TOKENS = np.array([[3, 9, 1, 4, 9, 2, 7], [5, 2, 7, 0, 0, 0, 0]], np.int32)
INDEX = "model.safetensors.index.json"


def run(checkpoint, params):
    apply = functools.partial(checkpoint.model.apply, train=False, key=None)
    return jax.jit(apply, compiler_options=COMPILER)(params, None, TOKENS)[0]


def assert_outputs(checkpoint, params, config, arrays):
    """The model's outputs are those of the transcription, in float32."""
    for mine, theirs in zip(run(checkpoint, params), transcriptions.outputs(config, arrays, TOKENS), strict=True):
        np.testing.assert_allclose(mine[: len(theirs)], theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def pruned(checkpoint):
    """Each block with half its weights."""
    for name in checkpoint.blocks:
        params = checkpoint.load_block(name)
        mask = jt.select(jt.scores.magnitude(params), 0.5, where=jt.filters.weights())
        yield name, jt.apply_mask(params, mask)


def all_tensors(folder):
    return functools.reduce(dict.__or__, (load_file(file) for file in sorted(folder.glob("*.safetensors"))))


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name, x in a.items():
        assert (x.dtype, x.shape) == (b[name].dtype, b[name].shape), name
        assert x.tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize("kind", CONFIGS)
def test_outputs_before_and_after_pruning(tmp_path, kind):
    config, arrays = CONFIGS[kind], draw(CONFIGS[kind])
    checkpoint = models.read_checkpoint(save(tmp_path / "dense", config, arrays, shards=3))
    params = checkpoint.load()
    assert_outputs(checkpoint, params, config, arrays)
    shapes = jax.eval_shape(checkpoint.model.init, jax.random.key(0))[0]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)

    models.write_checkpoint(tmp_path / "sparse", checkpoint, pruned(checkpoint))
    sparse = all_tensors(tmp_path / "sparse")
    # Of every matrix in a block half of the entries; a fused one is three layers here.
    matrices = [x for name, x in sparse.items() if re.search(r"\.\d+\.", name) and x.ndim == 2]
    assert len(matrices) >= 8
    assert all(np.count_nonzero(x) == x.size // 2 for x in matrices)
    again = models.read_checkpoint(tmp_path / "sparse")
    assert_outputs(again, again.load(), config, sparse)


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_written_unchanged_has_the_same_bits(tmp_path, kind):
    arrays = draw(CONFIGS[kind], dtype=ml_dtypes.bfloat16)
    old = save(tmp_path / "old", CONFIGS[kind], arrays, shards=3)
    (old / "tokenizer.json").write_text("{}")
    (old / "pytorch_model.bin").write_bytes(b"other weights")
    checkpoint = models.read_checkpoint(old)
    params = checkpoint.load()
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(ml_dtypes.bfloat16)}
    # In jax, in float32, and in another order.
    wide = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(jnp.float32), params)
    models.write_checkpoint(tmp_path / "new", checkpoint, [*wide["blocks"].items()][::-1], outer=wide)
    assert {file.name for file in (tmp_path / "new").iterdir()} == {
        *("config.json", "tokenizer.json", INDEX),
        *(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)),
    }
    for file in old.glob("*.safetensors"):
        assert_same(load_file(tmp_path / "new" / file.name), load_file(file))
    assert json.loads((tmp_path / "new" / INDEX).read_text()) == json.loads((old / INDEX).read_text())


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_new_folder_has_the_tensors_of_transformers_and_the_initial_weights(tmp_path, kind):
    checkpoint = models.new_checkpoint(tmp_path / "new", CONFIGS[kind], jax.random.key(3))
    prefix = {"bert": "bert."}.get(kind, "")  # the transcription is of the network without heads
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    expected = {prefix + name: shape for name, shape in transcriptions.shapes(CONFIGS[kind]).items()}
    assert {name: x.shape for name, x in tensors.items()} == expected
    assert {x.dtype for x in tensors.values()} == {np.dtype(np.float32)}
    initial = checkpoint.model.init(jax.random.key(3))[0]
    jax.tree.map(np.testing.assert_array_equal, checkpoint.load(), initial)
    assert json.loads((tmp_path / "new" / "config.json").read_text()) == CONFIGS[kind]


def test_errors_of_new_folders(tmp_path):
    make = lambda config, name="new": models.new_checkpoint(tmp_path / name, config, jax.random.key(0))
    with pytest.raises(InputError, match="config is not JSON"):
        make({"model_type": jax.random.key})
    with pytest.raises(CheckpointError, match="config: model_type"):
        make({"model_type": "unknown"})
    with pytest.raises(CheckpointError, match="num_attention_heads=None"):
        make({"model_type": "llama"})
    (tmp_path / "there").mkdir()
    with pytest.raises(CheckpointError, match="there exists"):
        make(CONFIGS["gpt2"], "there")
    assert [file.name for file in tmp_path.iterdir()] == ["there"]


def test_shards_of_another_size(tmp_path):
    config, arrays = CONFIGS["llama"], draw(CONFIGS["llama"])
    checkpoint = models.read_checkpoint(save(tmp_path / "old", config, arrays))
    blocks = checkpoint.load()["blocks"].items()
    models.write_checkpoint(tmp_path / "new", checkpoint, blocks, shard_bytes=3000)
    files = sorted((tmp_path / "new").glob("*.safetensors"))
    assert len(files) > 2
    for file in files:
        content = load_file(file)
        assert sum(x.nbytes for x in content.values()) <= 3000 or len(content) == 1
    assert_same(all_tensors(tmp_path / "new"), arrays)
    assert models.read_checkpoint(tmp_path / "new").load().keys() == checkpoint.load().keys()
    models.write_checkpoint(tmp_path / "one", checkpoint, blocks, shard_bytes=10**6)
    assert_same(load_file(tmp_path / "one" / "model.safetensors"), arrays)
    assert not (tmp_path / "one" / INDEX).exists()
    with pytest.raises(InputError, match="shard_bytes=0"):
        models.write_checkpoint(tmp_path / "none", checkpoint, blocks, shard_bytes=0)


def test_a_tied_head_in_the_files_follows_the_embedding(tmp_path):
    config = CONFIGS["qwen2"]
    arrays = draw(config)
    tied = {**arrays, "lm_head.weight": arrays["model.embed_tokens.weight"].copy()}
    checkpoint = models.read_checkpoint(save(tmp_path / "old", config, tied))
    params = checkpoint.load()
    assert "output" not in params
    assert_outputs(checkpoint, params, config, arrays)
    params["token"] = {"embedding": 2 * params["token"]["embedding"]}
    models.write_checkpoint(tmp_path / "new", checkpoint, params["blocks"].items(), outer=params)
    written = all_tensors(tmp_path / "new")
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        np.testing.assert_array_equal(written[name], 2 * arrays["model.embed_tokens.weight"])


def test_tensors_that_a_network_does_not_use_are_copied(tmp_path):
    """A masked language model: names with a prefix, a pooler, and a head whose kernel is the embedding."""
    config, arrays = CONFIGS["bert"], draw(CONFIGS["bert"])
    old_norms = lambda name: re.sub("LayerNorm.weight$", "LayerNorm.gamma", name).replace("Norm.bias", "Norm.beta")
    whole = {f"bert.{old_norms(name)}": x for name, x in arrays.items()}
    whole["bert.pooler.dense.weight"] = np.float32(np.eye(12))
    whole["bert.embeddings.position_ids"] = np.arange(8)[None]
    whole["cls.predictions.bias"] = np.float32(np.arange(20))
    whole["cls.predictions.decoder.weight"] = whole["bert.embeddings.word_embeddings.weight"].copy()
    checkpoint = models.read_checkpoint(save(tmp_path / "old", config, whole))
    params = checkpoint.load()
    assert_outputs(checkpoint, params, config, arrays)
    halves = jax.tree.map(lambda x: x / 2, params)
    models.write_checkpoint(tmp_path / "new", checkpoint, halves["blocks"].items(), outer=halves)
    unused = ("bert.pooler.dense.weight", "bert.embeddings.position_ids", "cls.predictions.bias")
    expected = {name: x if name in unused else x / 2 for name, x in whole.items()}
    assert_same(all_tensors(tmp_path / "new"), expected)


def test_the_stages_are_the_network(tmp_path):
    for kind in ("bert", "gpt2", "gemma"):
        checkpoint = models.read_checkpoint(save(tmp_path / kind, CONFIGS[kind], draw(CONFIGS[kind])))
        stages, outer = checkpoint.model.stages, checkpoint.load_outer()
        stream = stages.embed(outer, TOKENS)
        for name in checkpoint.blocks:
            stream = stages.block(checkpoint.load_block(name), stream)
        np.testing.assert_allclose(stages.head(outer, stream), run(checkpoint, checkpoint.load()), rtol=1e-4, atol=1e-4)


def test_one_block_is_in_memory(tmp_path):
    config = CONFIGS["llama"] | {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 12}
    arrays = draw(config)
    save(tmp_path / "old", config, arrays, shards=3)
    block = sum(x.nbytes for name, x in arrays.items() if ".layers.0." in name)
    assert sum(x.nbytes for x in arrays.values()) > 11 * block
    checkpoint = models.read_checkpoint(tmp_path / "old")
    zeros = lambda: ((name, jax.tree.map(np.zeros_like, checkpoint.load_block(name))) for name in checkpoint.blocks)
    del arrays
    tracemalloc.start()
    models.write_checkpoint(tmp_path / "new", checkpoint, zeros())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A block as it is read and as it is pruned, and copies of a tensor.
    assert peak < 3 * block


def change_config(**changes):
    return lambda config, arrays: config.update(changes)


def change_tensors(change):
    return lambda config, arrays: change(arrays)


# kind, what is wrong, what the error names
BROKEN = {
    "another network": ("llama", change_config(model_type="mamba"), "model_type='mamba'; supported are .*'llama'"),
    "no kind": ("llama", change_config(model_type=None), "model_type=None"),
    "a missing size": ("llama", change_config(hidden_size=None), "hidden_size=None; it must be a whole number"),
    "a size beyond all": ("llama", change_config(head_dim=2**40), "head_dim=1099511627776; it must be"),
    "a size that is text": ("llama", change_config(num_hidden_layers="2"), "num_hidden_layers='2'"),
    "too many blocks": ("llama", change_config(num_hidden_layers=10**6), "too few for 1000000 blocks"),
    "a width of another network": (
        "gpt2",
        change_config(n_embd=24),
        r"attn\.bias' has shape \(36,\), and \(72,\)",
    ),
    "heads": ("gpt2", change_config(n_head=5), "width=12 must be a multiple of heads=5"),
    "quantised": ("llama", change_config(quantization_config={"bits": 4}), "quantization_config="),
    "an activation": ("llama", change_config(hidden_act="xielu"), "hidden_act='xielu'"),
    "rotary positions": ("llama", change_config(rope_scaling={"rope_type": "yarn"}), "rope_type='yarn'; supported"),
    "rotary text": ("llama", change_config(rope_scaling="linear"), "rope_scaling='linear'; it must hold settings"),
    "an epsilon": ("llama", change_config(rms_norm_eps="small"), "rms_norm_eps='small'; it must be a positive number"),
    "a flag": ("llama", change_config(mlp_bias="yes"), "mlp_bias='yes'; it must be true or false"),
    "windows in some layers": ("qwen2", change_config(use_sliding_window=True), "use_sliding_window=True; only False"),
    "a decoder BERT": ("bert", change_config(is_decoder=True), "is_decoder=True; only False"),
    "a missing tensor": (
        "llama",
        change_tensors(lambda arrays: arrays.pop("model.layers.1.mlp.up_proj.weight")),
        r"'model\.layers\.1\.mlp\.up_proj\.weight' is missing; restore",
    ),
    "a missing head": (
        "llama",
        change_tensors(lambda arrays: arrays.pop("lm_head.weight")),
        r"'lm_head\.weight' is missing",
    ),
    "an adapter": (
        "llama",
        change_tensors(lambda arrays: arrays.update({"model.layers.0.lora_A": np.ones((2, 2))})),
        r"'model\.layers\.0\.lora_A' belongs to no network of this kind; correct model_type",
    ),
    "integers": (
        "llama",
        change_tensors(lambda arrays: arrays.update({"model.norm.weight": np.ones(12, np.int8)})),
        r"'model\.norm\.weight' has dtype int8",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_folders_that_are_refused(tmp_path, name):
    kind, change, match = BROKEN[name]
    config, arrays = dict(CONFIGS[kind]), draw(CONFIGS[kind])
    change(config, arrays)
    with pytest.raises(CheckpointError, match=match):
        models.read_checkpoint(save(tmp_path, config, arrays))


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


DAMAGE = {
    "no config.json": (lambda folder: (folder / "config.json").unlink(), r"config\.json cannot be read"),
    "text": (lambda folder: (folder / "config.json").write_text("{"), r"config\.json is not JSON"),
    "a list": (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json holds no settings"),
    "no weights": (lambda folder: (folder / INDEX).unlink(), "neither model.safetensors nor"),
    "a cut file": (lambda folder: cut(folder / "model-00002-of-00002.safetensors"), "is not a whole file"),
    "a lost file": (
        lambda folder: (folder / "model-00002-of-00002.safetensors").unlink(),
        "00002-of-00002.safetensors cannot be read",
    ),
    "an empty file": (
        lambda folder: (folder / "model-00001-of-00002.safetensors").write_bytes(b""),
        "not a whole file",
    ),
    "a path in the index": (
        lambda folder: (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}})),
        "must hold names of tensors and of files",
    ),
    "an index of other tensors": (
        lambda folder: (folder / INDEX).write_text((folder / INDEX).read_text().replace("lm_head", "head")),
        "does not hold 'head.weight'",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_folders(tmp_path, name):
    damage, match = DAMAGE[name]
    save(tmp_path, CONFIGS["llama"], draw(CONFIGS["llama"]), shards=2)
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=match):
        models.read_checkpoint(tmp_path)


HEADERS = {
    "a length beyond the file": (2**40).to_bytes(8, "little"),
    "no JSON": b"\x02" + bytes(7) + b"{{",
    "no dict": b"\x02" + bytes(7) + b"[]",
    "an unknown dtype": {"w": {"dtype": "I1", "shape": [1], "data_offsets": [0, 1]}},
    "a negative size": {"w": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 1]}},
    "a size that is no number": {"w": {"dtype": "U8", "shape": ["1"], "data_offsets": [0, 1]}},
    "bytes that do not fit the shape": {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1]}},
    "bytes beyond the end": {"w": {"dtype": "U8", "shape": [100], "data_offsets": [0, 100]}},
    "bytes before the start": {"w": {"dtype": "U8", "shape": [1], "data_offsets": [-1, 0]}},
    "no offsets": {"w": {"dtype": "U8", "shape": [1]}},
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_are_refused(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["llama"]))
    content = HEADERS[name]
    if isinstance(content, dict):
        text = json.dumps(content).encode()
        content = len(text).to_bytes(8, "little") + text + bytes(4)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a whole file of safetensors"):
        models.read_checkpoint(tmp_path)


def test_parameters_that_are_not_those_of_the_checkpoint(tmp_path):
    checkpoint = models.read_checkpoint(save(tmp_path / "old", CONFIGS["qwen3"], draw(CONFIGS["qwen3"])))
    params = checkpoint.load()
    blocks = params["blocks"]
    norm = blocks["block1"]["norm1"]
    write = functools.partial(models.write_checkpoint, tmp_path / "new", checkpoint)
    for wrong, match in [
        (blocks, "blocks is a mapping"),
        ([("block1", blocks["block1"])], "blocks lacks 'block2'"),
        ([("block3", blocks["block1"])], "'block3' comes twice or is unknown; expected 'block1', 'block2'"),
        ([("block1", blocks["block1"])] * 2, "'block1' comes twice"),
        ([("block1", {**blocks["block1"], "norm1": {}})], "block1: the leaf 'norm1/scale' is missing"),
        ([("block1", {**blocks["block1"], "norm3": norm})], "block1: the leaf 'norm3/scale' is unknown"),
        ([("block1", {**blocks["block1"], "norm1": {"scale": np.ones(5)}})], r"norm1/scale.*of shape \(5,\)"),
        ([("block1", {**blocks["block1"], "norm1": {"scale": np.ones(12, bool)}})], "norm1/scale' is bool"),
        ([("block1", {**blocks["block1"], "norm1": {"scale": None}})], "norm1/scale' is None"),
    ]:
        with pytest.raises(InputError, match=match):
            write(wrong)
    with pytest.raises(InputError, match="outer: the leaf 'norm/scale' is missing"):
        write(blocks.items(), outer={name: part for name, part in params.items() if name != "norm"})
    assert [path.name for path in tmp_path.iterdir()] == ["old"], "what was begun is removed"
    with pytest.raises(InputError, match="name='block9' is no block"):
        checkpoint.load_block("block9")


def test_what_exists_stays(tmp_path):
    checkpoint = models.read_checkpoint(save(tmp_path / "old", CONFIGS["gpt2"], draw(CONFIGS["gpt2"])))
    with pytest.raises(CheckpointError, match="old exists; delete it or save under another name"):
        models.write_checkpoint(tmp_path / "old", checkpoint, pruned(checkpoint))
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        models.write_checkpoint(tmp_path / "file" / "new", checkpoint, pruned(checkpoint))
    save_file({"w": np.ones(1)}, tmp_path / "old" / "model.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load()
