"""Encoders of the BERT kind."""

import functools

import jax
import jax.numpy as jnp

from jaxticket._checks import check_heads, check_sizes
from jaxticket.errors import InputError
from jaxticket.models import _layers, _transformer
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model, of_stages
from jaxticket.typing import Key, Params, PyTree, Stages

PADDING = 0  # the token that fills up a batch; no other token sees it
_EPSILON = 1e-12


def bert(
    *,
    vocabulary: int,
    context: int = 512,
    layers: int = 6,
    heads: int = 12,
    width: int = 384,
    hidden: int | None = None,
    segments: int = 1,
) -> Model:
    """Build a BERT encoder: tokens of shape (batch, time ≤ context), 0 for padding, to hidden states (batch, time,
    width).

    Blocks are post-norm with a hidden layer, learned positions and exact GELU (Devlin et al., 2019). Kernels and
    embeddings are normal with deviation 0.02, biases zero. Dropout, pooler and head are absent: see
    `sentence_embeddings`. All tokens are of the first segment. The defaults are those of MiniLM-L6-H384 (Wang et al.,
    2020). The model raises InputError for tokens that are not integers, and for more of them than the context.

    Args:
      vocabulary: the number of tokens.
      context: the longest sequence.
      layers: the number of blocks.
      heads: the number of attention heads.
      width: the size of a hidden state.
      hidden: the units of a hidden layer; None: 4 · width.
      segments: the number of embeddings of segments, of which the first is used.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, or a width that the heads do not divide.

    Examples:
      >>> import functools, jax
      >>> model = bert(vocabulary=50, context=8, layers=1, heads=2, width=16)
      >>> params, state = jax.eval_shape(model.init, jax.random.key(0))
      >>> run = functools.partial(model.apply, train=False, key=None)
      >>> jax.eval_shape(run, params, state, jnp.ones((3, 5), int))[0].shape
      (3, 5, 16)
    """
    hidden = 4 * width if hidden is None else hidden
    check_sizes(vocabulary=vocabulary, context=context, layers=layers, heads=heads, width=width)
    check_sizes(hidden=hidden, segments=segments)
    check_heads(width, heads)
    design = _transformer.Design(
        scale=(width // heads) ** -0.5,
        epsilon=_EPSILON,
        causal=False,
        activation=functools.partial(jax.nn.gelu, approximate=False),
    )

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs, normal = _layers.keys(key), nnx.initializers.normal(0.02)
        new_block = functools.partial(_transformer.new_block, kernel_init=normal, residual_init=normal)
        embeddings = {"token": vocabulary, "position": context, "segment": segments}
        return _layers.pure(
            {
                **{name: nnx.Embed(n, width, embedding_init=normal, rngs=rngs) for name, n in embeddings.items()},
                "norm": _transformer.new_norm(width, rngs),
                "blocks": {f"block{index}": new_block(width, heads, hidden, rngs) for index in range(1, layers + 1)},
            }
        )

    def embed(params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        embedded = _transformer.embed(params["token"], x)
        positions = _transformer.embed_positions(params["position"], x.shape[1])
        summed = embedded + (positions + params["segment"]["embedding"][None, :1])
        return _transformer.layer_norm(params["norm"], summed, epsilon=_EPSILON), x != PADDING

    def block(params: Params, stream: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, allowed = stream
        return _transformer.block_post(params, x, design, allowed=allowed), allowed

    def look(params: Params, stream: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return _transformer.look(params["attention"], stream[0], design, allowed=stream[1])

    return of_stages(init, Stages(embed, block, head=lambda params, stream: stream[0], look=look))


def sentence_embeddings(hidden: jax.Array, tokens: jax.Array) -> jax.Array:
    """Return unit vectors (batch, width): the means of hidden states over the tokens that are not padding.

    These are the embeddings of sentence-transformers (Reimers & Gurevych, 2019).

    Args:
      hidden: (batch, time, width), the hidden states of `bert`.
      tokens: (batch, time), its inputs.

    Returns:
      An array (batch, width).

    Raises:
      InputError: shapes that do not fit.

    Examples:
      >>> sentence_embeddings(jnp.array([[[3.0, 0.0], [0.0, 4.0], [9.0, 9.0]]]), jnp.array([[7, 7, 0]]))
      Array([[0.6, 0.8]], dtype=float32)
    """
    if hidden.shape[:2] != tokens.shape:
        raise InputError(f"hidden has shape {hidden.shape} and tokens {tokens.shape}; both start with (batch, time)")
    mean = jnp.mean(hidden, axis=1, where=(tokens != PADDING)[..., None])
    return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)
