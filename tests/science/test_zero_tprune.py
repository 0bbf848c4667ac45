"""Tokens that Zero-TPrune drops matter less than random ones and than those of small norms, in MiniLM."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training import texts
from jaxticket import models
from jaxticket.errors import InputError
from jaxticket.methods.tokens import zero_tprune as module
from jaxticket.methods.tokens.zero_tprune import Drop, zero_tprune

DROPS = {"block2": Drop(0.15, 0.15), "block4": Drop(0.15, 0.15)}  # 70 % stay, twice


@pytest.fixture(scope="module")
def embed():
    """Embeddings of 200 sentences after a choice of tokens: places of attention, keys and whether a token is real."""
    try:
        minilm = models.minilm()
    except InputError as error:
        pytest.skip(str(error))
    tokens = jnp.asarray(minilm.tokens(texts.sample(None, 200, seed=0)))
    whole = minilm.model.apply(minilm.params, None, tokens, train=False, key=None)[0]

    def similarity(monkeypatch, choose=None):
        if choose is not None:
            monkeypatch.setattr(module, "drop_tokens", choose)
        apply = jax.jit(zero_tprune(minilm.model.stages, DROPS, start="uniform"))
        hidden, places = apply(minilm.params, tokens)
        own = models.sentence_embeddings(hidden, jnp.take_along_axis(tokens, places, 1))
        return np.asarray(jnp.sum(own * models.sentence_embeddings(whole, tokens), axis=-1))

    return similarity


def by(score, attention, keys, drop, *, start, allowed):
    """Places of the highest scores among real tokens, the first always among them."""
    time = allowed.shape[1]
    scores = jnp.where(allowed, score(keys), -jnp.inf).at[:, 0].set(jnp.inf)
    return module._highest(scores, time - sum(module._numbers(drop, time)))


@pytest.mark.science
def test_sentences_keep_their_embeddings(embed, monkeypatch):
    chosen = embed(monkeypatch)
    controls = {}
    for seed in range(3):
        noise = functools.partial(
            lambda keys, seed: jax.random.uniform(jax.random.key(seed), keys.shape[:2]), seed=seed
        )
        controls[f"random {seed}"] = embed(monkeypatch, functools.partial(by, noise))
    controls["norms"] = embed(monkeypatch, functools.partial(by, lambda keys: jnp.linalg.norm(keys, axis=(2, 3))))
    print(f"chosen {chosen.mean():.4f}", {name: round(float(values.mean()), 4) for name, values in controls.items()})
    for name, values in controls.items():
        gain = chosen - values
        assert gain.mean() > 2 * gain.std() / np.sqrt(len(gain)), name
    assert chosen.mean() >= 0.95
