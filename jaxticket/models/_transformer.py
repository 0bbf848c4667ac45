"""The blocks that the transformers share: attention and a two-layer perceptron, pre-norm or post-norm."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxticket._checks import check_tokens
from jaxticket.errors import InputError
from jaxticket.models import _layers
from jaxticket.models._layers import nnx
from jaxticket.typing import Params


class Design(NamedTuple):
    """The settings of a block beyond its arrays."""

    scale: float  # of query · key: fixed, since removing query channels must not change it
    epsilon: float  # of layer norms
    causal: bool
    activation: Callable[[jax.Array], jax.Array]


def new_norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Make a layer norm with scale 1 and shift 0."""
    return nnx.LayerNorm(width, rngs=rngs)


def new_block(
    width: int,
    heads: int,
    hidden: int,
    rngs: nnx.Rngs,
    *,
    kernel_init: _layers.Initialiser,
    residual_init: _layers.Initialiser,
) -> _layers.Layers:
    """Make a block's layers, of which `hidden` units are in the perceptron; biases are zero.

    `residual_init` draws the two kernels that write to the residual stream.
    """
    head = (heads, width // heads)
    names = ("query", "key", "value")
    attention = {name: nnx.LinearGeneral(width, head, kernel_init=kernel_init, rngs=rngs) for name in names}
    out = nnx.LinearGeneral(head, width, axis=(-2, -1), kernel_init=residual_init, rngs=rngs)
    return {
        "norm1": new_norm(width, rngs),
        "attention": {**attention, "out": out},
        "norm2": new_norm(width, rngs),
        "mlp": {
            "hidden": _layers.new_dense(width, hidden, kernel_init, rngs),
            "output": _layers.new_dense(hidden, width, residual_init, rngs),
        },
    }


def block(params: Params, x: jax.Array, design: Design) -> jax.Array:
    """Return x plus attention, then plus the perceptron, each of the normalised stream: (batch, time, width)."""
    x = x + attention(params["attention"], layer_norm(params["norm1"], x, epsilon=design.epsilon), design)
    hidden = _layers.dense(params["mlp"]["hidden"], layer_norm(params["norm2"], x, epsilon=design.epsilon))
    return x + _layers.dense(params["mlp"]["output"], design.activation(hidden))


def block_post(params: Params, x: jax.Array, design: Design, *, allowed: jax.Array) -> jax.Array:
    """Apply a block as `block` does, but normalise each sum after it was made, as in BERT."""
    x = x + attention(params["attention"], x, design, allowed=allowed)
    x = layer_norm(params["norm1"], x, epsilon=design.epsilon)
    hidden = design.activation(_layers.dense(params["mlp"]["hidden"], x))
    return layer_norm(params["norm2"], x + _layers.dense(params["mlp"]["output"], hidden), epsilon=design.epsilon)


def attention(params: Params, x: jax.Array, design: Design, *, allowed: jax.Array | None = None) -> jax.Array:
    """Apply softmax attention, whose heads and whose channels of query · key and of values are read from the kernels.

    `allowed` marks the tokens that may be attended to: bool of shape (batch, time).
    """
    query, key, value = (project(params[name], x) for name in ("query", "key", "value"))
    visible = [past(x.shape[1])] if design.causal else []
    if allowed is not None:
        visible.append(allowed[:, None, None])
    return join(params["out"], attend(query, key, value, *visible, scale=design.scale))


def attend(query: jax.Array, key: jax.Array, value: jax.Array, *visible: jax.Array, scale: float) -> jax.Array:
    """Return the values that each query attends to: (batch, time, heads, channels), as all three arguments are.

    It is written out, because library attention wants as many channels of a value as of a query. A key may be seen
    where all of `visible`, bool arrays that broadcast to (batch, heads, queries, keys), are True. Weights of bfloat16
    are normalised in float32.
    """
    weights = attention_weights(query, key, *visible, scale=scale).astype(value.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


def attention_weights(query: jax.Array, key: jax.Array, *visible: jax.Array, scale: float) -> jax.Array:
    """Return the weights by which `attend` mixes values, (batch, heads, queries, keys)."""
    scores = scale * jnp.einsum("bqhd,bkhd->bhqk", query, key)
    for mask in visible:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32)))


def look(
    params: Params, x: jax.Array, design: Design, *, allowed: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Return the weights of `attention`, (batch, heads, queries, keys), and its keys, (batch, time, heads, channels).

    A compiled program that also applies the attention computes both once.
    """
    query, key = (project(params[name], x) for name in ("query", "key"))
    visible = [] if allowed is None else [allowed[:, None, None]]
    return attention_weights(query, key, *visible, scale=design.scale), key


def past(time: int, *, window: int | None = None) -> jax.Array:
    """Return which keys each query may see, (1, 1, queries, keys): itself and earlier ones, `window` in all."""
    visible = jnp.tri(time, dtype=bool)
    if window is not None:
        visible = visible & ~jnp.tri(time, k=-window, dtype=bool)
    return visible[None, None]


def project(params: Params, x: jax.Array) -> jax.Array:
    """Return the heads of x: (batch, time, heads, channels)."""
    width, heads, depth = params["kernel"].shape
    return _layers.bind(params, nnx.LinearGeneral, width, (heads, depth), use_bias="bias" in params)(x)


def join(params: Params, mixed: jax.Array) -> jax.Array:
    """Return the outputs of attention, (batch, time, width), of what its heads mixed."""
    heads, depth, width = params["kernel"].shape
    layer = _layers.bind(params, nnx.LinearGeneral, (heads, depth), width, axis=(-2, -1), use_bias="bias" in params)
    return layer(mixed)


def embed(params: Params, tokens: jax.Array) -> jax.Array:
    """Return the embeddings of tokens, (batch, time, width), after a check of the tokens."""
    check_tokens(tokens)
    return _layers.bind(params, nnx.Embed, *params["embedding"].shape)(tokens)


def embed_positions(params: Params, time: int) -> jax.Array:
    """Return the learned embeddings of positions, (1, time, width). Raises InputError for more than there are."""
    longest = params["embedding"].shape[0]
    if time > longest:
        raise InputError(f"x has {time} tokens in a sequence; sequences must have at most {longest} tokens (context)")
    return params["embedding"][None, :time]


def logits(params: Params, x: jax.Array) -> jax.Array:
    """Return the logits of hidden states: by the layer `output`, or without it by the transposed embedding."""
    if "output" in params:
        return _layers.dense(params["output"], x)
    return _layers.bind(params["token"], nnx.Embed, *params["token"]["embedding"].shape).attend(x)


def layer_norm(params: Params, x: jax.Array, *, epsilon: float) -> jax.Array:
    """Normalise x over its last axis."""
    return _layers.bind(params, nnx.LayerNorm, x.shape[-1], epsilon=epsilon)(x)
