"""Folders that transformers saves and loads: its outputs are ours, before and after pruning (make hf)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from jaxticket import models
from tests.conformance.drivers import COMPILER
from tests.models import transcriptions

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

SIZES = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 4}
SHARED = {**SIZES, "num_key_value_heads": 2}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 50.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
CONFIGS = {
    "bert": ("BertConfig", {**SIZES, "max_position_embeddings": 32}),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": 50, "n_positions": 32, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_inner": 20},
    ),
    "llama": ("LlamaConfig", SHARED),
    "llama 3": ("LlamaConfig", {**SHARED, "rope_parameters": {**LLAMA3, "original_max_position_embeddings": 16}}),
    "llama, biased": ("LlamaConfig", {**SHARED, "attention_bias": True, "mlp_bias": True, "head_dim": 8}),
    "llama, tied": ("LlamaConfig", {**SHARED, "tie_word_embeddings": True}),
    "mistral": ("MistralConfig", {**SHARED, "sliding_window": 4}),
    "mistral, no window": ("MistralConfig", {**SHARED, "sliding_window": None}),
    "qwen2": ("Qwen2Config", {**SHARED, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {**SHARED, "head_dim": 10}),
    "gemma": ("GemmaConfig", {**SHARED, "head_dim": 8}),
}
TOKENS = np.random.default_rng(0).integers(1, 50, (3, 11)).astype(np.int32)
TOKENS[1, 7:] = 0


def new(kind):
    """A random network in which each norm and bias matters."""
    torch.manual_seed(0)
    name, settings = CONFIGS[kind]
    config = getattr(transformers, name)(**settings, initializer_range=0.4)
    made = transformers.AutoModelForMaskedLM if kind == "bert" else transformers.AutoModelForCausalLM
    network = made.from_config(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def theirs(network):
    """Logits, or hidden states of BERT, where a token is not padding."""
    tokens = torch.tensor(TOKENS).long()
    network = network.bert if network.config.model_type == "bert" else network
    with torch.no_grad():
        found = network.eval()(tokens, attention_mask=(tokens != 0).long())
    return (found.last_hidden_state if "last_hidden_state" in found else found.logits).numpy()[TOKENS != 0]


def ours(checkpoint):
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), checkpoint.load())
    apply = functools.partial(checkpoint.model.apply, train=False, key=None)
    return np.asarray(jax.jit(apply, compiler_options=COMPILER)(params, None, TOKENS)[0])[TOKENS != 0]


def loaded(network, folder):
    """The network of a folder, in float32; transformers finds in it all that it looks for, and nothing else."""
    found, notes = type(network).from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    assert not any(notes[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys")), notes
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_outputs_before_and_after_pruning(tmp_path, kind, dtype):
    new(kind).to(getattr(torch, dtype)).save_pretrained(tmp_path / "dense", max_shard_size="6KB")
    network = loaded(new(kind), tmp_path / "dense")
    assert len([*(tmp_path / "dense").glob("*.safetensors")]) > 2
    checkpoint = models.read_checkpoint(tmp_path / "dense")
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(checkpoint.load())} == {dtype}
    np.testing.assert_allclose(ours(checkpoint), theirs(network), atol=1e-4)

    def pruned():
        for name in checkpoint.blocks:
            params = checkpoint.load_block(name)
            mask = jt.select(jt.scores.magnitude(params), 0.5, where=jt.filters.weights())
            yield name, jt.apply_mask(params, mask)

    models.write_checkpoint(tmp_path / "sparse", checkpoint, pruned())
    sparse = loaded(network, tmp_path / "sparse")
    assert type(network).from_pretrained(tmp_path / "sparse", dtype="auto").dtype == getattr(torch, dtype)
    np.testing.assert_allclose(ours(models.read_checkpoint(tmp_path / "sparse")), theirs(sparse), atol=1e-4)
    assert np.abs(theirs(sparse) - theirs(network)).max() > 0.1
    zeros = sum(int((parameter == 0).sum()) for parameter in sparse.parameters() if parameter.ndim == 2)
    weights = sum(leaf.size for leaf in jax.tree.leaves(jt.filters.only(dict(pruned()), jt.filters.weights())))
    assert abs(zeros - weights / 2) <= 0.01 * weights


@pytest.mark.parametrize("kind", transcriptions.CONFIGS)
def test_the_transcriptions_are_its_networks(tmp_path, kind):
    """The default tests hold the library against them."""
    config, arrays = transcriptions.CONFIGS[kind], transcriptions.draw(transcriptions.CONFIGS[kind])
    made = transformers.AutoModel if kind == "bert" else transformers.AutoModelForCausalLM
    network = made.from_pretrained(transcriptions.save(tmp_path, config, arrays), dtype=torch.float32)
    tokens = np.array([[3, 9, 1, 4, 9, 2, 7]])
    (expected,) = transcriptions.outputs(config, arrays, tokens)
    with torch.no_grad():
        found = network.eval()(torch.tensor(tokens))
    found = found.last_hidden_state if kind == "bert" else found.logits
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_the_embedding_of_a_tied_head_is_written_once(tmp_path):
    network = new("llama, tied")
    network.save_pretrained(tmp_path / "old")
    checkpoint = models.read_checkpoint(tmp_path / "old")
    params = checkpoint.load()
    assert "output" not in params
    params["token"] = {"embedding": 2 * params["token"]["embedding"]}
    models.write_checkpoint(tmp_path / "new", checkpoint, params["blocks"].items(), outer=params)
    found = loaded(network, tmp_path / "new")
    assert found.lm_head.weight is found.model.embed_tokens.weight
    np.testing.assert_array_equal(found.lm_head.weight.detach(), params["token"]["embedding"])


def test_a_network_without_a_head(tmp_path):
    network = new("gpt2").transformer
    network.save_pretrained(tmp_path / "old")
    checkpoint = models.read_checkpoint(tmp_path / "old")
    blocks = checkpoint.load()["blocks"].items()
    models.write_checkpoint(tmp_path / "new", checkpoint, blocks, shard_bytes=10_000)
    assert len([*(tmp_path / "new").glob("*.safetensors")]) > 1
    for mine, its in zip(loaded(network, tmp_path / "new").parameters(), network.parameters(), strict=True):
        np.testing.assert_array_equal(mine.detach(), its.detach())
