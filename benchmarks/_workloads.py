"""The two networks whose training steps are timed, as plain functions: a 266k MLP and a 5M transformer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Params = dict[str, Any]


class Workload(NamedTuple):
    """The parameters of a network, and the loss of a fixed batch."""

    params: Params
    loss: Callable[[Params], jax.Array]


def mlp(*, batch: int = 128, widths: tuple[int, ...] = (784, 300, 100, 10)) -> Workload:
    """Return LeNet-300-100 on random images."""
    keys = jax.random.split(jax.random.key(0), len(widths))
    layers = zip(keys, widths[:-1], widths[1:], strict=False)
    params = {f"layer{i}": _dense(k, m, n) for i, (k, m, n) in enumerate(layers)}
    x = jax.random.normal(keys[-1], (batch, widths[0]))
    y = jnp.arange(batch) % widths[-1]

    def loss(params: Params) -> jax.Array:
        h = x
        for i in range(len(widths) - 1):
            h = _apply(params[f"layer{i}"], jax.nn.relu(h) if i else h)
        return _cross_entropy(h, y)

    return Workload(params, loss)


def transformer(
    *, layers: int = 6, width: int = 256, heads: int = 4, vocabulary: int = 1024, batch: int = 8, length: int = 64
) -> Workload:
    """Return a decoder (pre-norm, GELU, no tied weights) on random tokens."""
    keys = iter(jax.random.split(jax.random.key(0), 4 * layers + 3))
    params: Params = {"embed": {"embedding": 0.02 * jax.random.normal(next(keys), (vocabulary, width))}}
    for i in range(layers):
        params[f"block{i}"] = {
            "qkv": _dense(next(keys), width, 3 * width),
            "out": _dense(next(keys), width, width),
            "up": _dense(next(keys), width, 4 * width),
            "down": _dense(next(keys), 4 * width, width),
            "norm1": {"scale": jnp.ones(width)},
            "norm2": {"scale": jnp.ones(width)},
        }
    params["head"] = _dense(next(keys), width, vocabulary)
    tokens = jax.random.randint(next(keys), (batch, length + 1), 0, vocabulary)

    def attend(block: Params, h: jax.Array) -> jax.Array:
        q, k, v = jnp.split(_apply(block["qkv"], h).reshape(batch, length, heads, -1), 3, axis=-1)
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return _apply(block["out"], mixed.reshape(batch, length, width))

    def loss(params: Params) -> jax.Array:
        h = params["embed"]["embedding"][tokens[:, :-1]]
        for i in range(layers):
            block = params[f"block{i}"]
            h = h + attend(block, _norm(block["norm1"], h))
            h = h + _apply(block["down"], jax.nn.gelu(_apply(block["up"], _norm(block["norm2"], h))))
        return _cross_entropy(_apply(params["head"], h), tokens[:, 1:])

    return Workload(params, loss)


def _dense(key: jax.Array, m: int, n: int) -> Params:
    return {"kernel": jax.random.normal(key, (m, n)) / m**0.5, "bias": jnp.zeros(n)}


def _apply(layer: Params, x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + layer["bias"]


def _norm(layer: Params, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return layer["scale"] * centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1).mean()
