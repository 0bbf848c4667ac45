"""The blocks that the transformers share: attention and a two-layer perceptron, pre-norm or post-norm."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

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
    width: int, heads: int, rngs: nnx.Rngs, *, kernel_init: _layers.Initialiser, residual_init: _layers.Initialiser
) -> _layers.Layers:
    """Make a block's layers; biases are zero.

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
            "hidden": _layers.new_dense(width, 4 * width, kernel_init, rngs),
            "output": _layers.new_dense(4 * width, width, residual_init, rngs),
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

    It is written out, because library attention wants as many channels of a value as of a query. `allowed` marks the
    tokens that may be attended to: bool of shape (batch, time). Weights of bfloat16 are normalised in float32.
    """
    query, key, value = (_project(params[name], x) for name in ("query", "key", "value"))
    scores = design.scale * jnp.einsum("bqhd,bkhd->bhqk", query, key)
    if design.causal:
        past = jnp.tri(x.shape[1], dtype=bool)[None, None]
        scores = jnp.where(past, scores, jnp.finfo(scores.dtype).min)
    if allowed is not None:
        scores = jnp.where(allowed[:, None, None], scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32))).astype(value.dtype)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    heads, depth, width = params["out"]["kernel"].shape
    return _layers.bind(params["out"], nnx.LinearGeneral, (heads, depth), width, axis=(-2, -1))(mixed)


def layer_norm(params: Params, x: jax.Array, *, epsilon: float) -> jax.Array:
    """Normalise x over its last axis."""
    return _layers.bind(params, nnx.LayerNorm, x.shape[-1], epsilon=epsilon)(x)


def _project(params: Params, x: jax.Array) -> jax.Array:
    width, heads, depth = params["kernel"].shape
    return _layers.bind(params, nnx.LinearGeneral, width, (heads, depth))(x)
