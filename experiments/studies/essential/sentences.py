"""The effect of pruning an encoder on the embeddings of sentences."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import models
from jaxticket.typing import Params

_BATCH = 40  # sentences embedded together


def as_matrices(params: Params) -> Params:
    """Return the kernels of the blocks as (inputs, outputs), so that N:M groups lie along the inputs.

    The heads of attention are outputs of query, key and value, and inputs of the following matrix. Shapes are undone
    later.
    """

    def matrix(path: Any, p: jax.Array) -> jax.Array:
        if p.ndim != 3:
            return p
        return p.reshape(-1, p.shape[-1]) if "'out'" in jax.tree_util.keystr(path) else p.reshape(p.shape[0], -1)

    return jax.tree_util.tree_map_with_path(matrix, params)


def agreement(pretrained: models.Pretrained, texts: Sequence[str]) -> Callable[[Params], jax.Array]:
    """Map parameters as matrices to (cosine, same neighbour) for each sentence, against the dense model."""
    tokens = jnp.asarray(pretrained.tokens(texts))
    batches = tokens[: len(texts) // _BATCH * _BATCH].reshape(-1, min(_BATCH, len(texts)), tokens.shape[1])
    rest = tokens[batches.shape[0] * batches.shape[1] :]

    def embed(matrices: Params) -> jax.Array:
        params = jax.tree.map(lambda m, p: m.reshape(p.shape), matrices, pretrained.params)

        def embed_batch(batch: jax.Array) -> jax.Array:
            hidden, _ = pretrained.model.apply(params, None, batch, train=False, key=None)
            return models.sentence_embeddings(hidden, batch)

        whole = jax.lax.map(embed_batch, batches).reshape(-1, params["norm"]["scale"].shape[0])
        return jnp.concatenate([whole, embed_batch(rest)]) if len(rest) else whole

    def neighbour(embeddings: jax.Array) -> jax.Array:
        return jnp.argmax(embeddings @ embeddings.T - 2 * jnp.eye(len(embeddings)), axis=1)

    dense = jax.jit(embed)(as_matrices(pretrained.params))

    def quality(matrices: Params) -> jax.Array:
        embeddings = embed(matrices)
        return jnp.stack([jnp.sum(embeddings * dense, 1), neighbour(embeddings) == neighbour(dense)])

    return quality
