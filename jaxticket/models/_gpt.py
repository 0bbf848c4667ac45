"""Small language models of the GPT-2 kind."""

import functools
import math

import jax

from jaxticket._checks import check_heads, check_sizes
from jaxticket.models import _layers, _transformer
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model, of_stages
from jaxticket.typing import Key, Params, PyTree, Stages

_EPSILON = 1e-5


def gpt(
    *,
    vocabulary: int,
    context: int = 256,
    layers: int = 6,
    heads: int = 6,
    width: int = 384,
    hidden: int | None = None,
) -> Model:
    """Build a decoder-only language model: tokens of shape (batch, time ≤ context) to logits (batch, time, vocabulary).

    It is GPT-2 (Radford et al., 2019): pre-norm blocks, learned positions, tanh GELU, logits by the transposed
    embedding. Kernels and embeddings are normal with deviation 0.02, over √(2 · layers) where they write to the
    residual stream; biases zero. Dropout is absent. The default size is that of nanoGPT's character model. 12 layers
    and heads of width 768 with the vocabulary 50,257 and context 1,024 make GPT-2's 124,439,808 parameters. Heads,
    their channels, hidden units and blocks are read from the parameters. The model raises InputError for tokens that
    are not integers, and for more of them than the context.

    Args:
      vocabulary: the number of tokens.
      context: the longest sequence.
      layers: the number of blocks.
      heads: the number of attention heads.
      width: the size of a hidden state.
      hidden: the units of a hidden layer; None: 4 · width.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, or a width that the heads do not divide.

    Examples:
      >>> import functools, jax
      >>> model = gpt(vocabulary=50, context=8, layers=1, heads=2, width=16)
      >>> params, state = jax.eval_shape(model.init, jax.random.key(0))
      >>> run = functools.partial(model.apply, train=False, key=None)
      >>> jax.eval_shape(run, params, state, jax.numpy.ones((3, 5), int))[0].shape
      (3, 5, 50)
    """
    hidden = 4 * width if hidden is None else hidden
    check_sizes(vocabulary=vocabulary, context=context, layers=layers, heads=heads, width=width, hidden=hidden)
    check_heads(width, heads)
    design = _transformer.Design(
        scale=(width // heads) ** -0.5,
        epsilon=_EPSILON,
        causal=True,
        activation=functools.partial(jax.nn.gelu, approximate=True),
    )

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs, normal = _layers.keys(key), nnx.initializers.normal(0.02)
        residual = nnx.initializers.normal(0.02 / math.sqrt(2 * layers))
        new_block = functools.partial(_transformer.new_block, kernel_init=normal, residual_init=residual)
        return _layers.pure(
            {
                "token": nnx.Embed(vocabulary, width, embedding_init=normal, rngs=rngs),
                "position": nnx.Embed(context, width, embedding_init=normal, rngs=rngs),
                "blocks": {f"block{index}": new_block(width, heads, hidden, rngs) for index in range(1, layers + 1)},
                "norm": _transformer.new_norm(width, rngs),
            }
        )

    def embed(params: Params, x: jax.Array) -> jax.Array:
        embedded = _transformer.embed(params["token"], x)
        return embedded + _transformer.embed_positions(params["position"], x.shape[1])

    def head(params: Params, x: jax.Array) -> jax.Array:
        return _transformer.logits(params, _transformer.layer_norm(params["norm"], x, epsilon=_EPSILON))

    return of_stages(init, Stages(embed, lambda params, x: _transformer.block(params, x, design), head))
