"""Transformers: patches and a class token, encoder and decoder, learnt queries, layers stacked under a scan."""

import jax
import jax.numpy as jnp

from tests.structure.networks._base import data, group, network, tokens
from tests.structure.networks._layers import (
    affine_places,
    affine_shapes,
    attend,
    conv,
    dense,
    dense_shapes,
    layer_norm,
    merge_heads,
    out,
    rows,
    split_heads,
)

relu = jax.nn.relu


def _attention(query: int, key: int, width: int, result: int):
    return {
        "q": dense_shapes(query, width),
        "k": dense_shapes(key, width),
        "v": dense_shapes(key, width),
        "out": dense_shapes(width, result),
    }


def _attended(v, x, y, head_dim):
    q, k, values = (split_heads(dense(v[name], z), head_dim) for name, z in (("q", x), ("k", y), ("v", y)))
    return dense(v["out"], merge_heads(attend(q, k, values)))


def _heads(name: str, head_dim: int) -> str:
    """Return the places of the heads of an attention."""
    return f"{rows(f'{name}/q', f'{name}/k', f'{name}/v', inner=head_dim)} {name}/out/kernel:0/{head_dim}"


_VIT = {
    "patch": {"kernel": (2, 2, 3, 6), "bias": (6,)},
    "token": (1, 1, 6),
    "position": (1, 7, 6),
    "attention": _attention(6, 6, 8, 6),
    "up": dense_shapes(6, 5),
    "down": dense_shapes(5, 6),
    "head": dense_shapes(6, 3),
}
_VIT_STREAM = (
    f"patch/kernel:3 patch/bias:0 token:2 position:2 {out('attention/out', 'down')} attention/q/kernel:0 "
    "attention/k/kernel:0 attention/v/kernel:0 up/kernel:0 head/kernel:0"
)
_VIT_REST = (group(4, _heads("attention", 2)), group(5, f"{out('up')} down/kernel:0"))
_VIT_FROZEN = f"patch/kernel:012 position:1 {out('head')}"


def _vit(v, x, norm):
    x = conv(v["patch"], x, stride=2, padding="VALID")
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    token = jnp.broadcast_to(v["token"], (x.shape[0], 1, x.shape[-1]))
    x = jnp.concatenate([token, x], axis=1) + v["position"]
    y = norm("norm1", x)
    x = x + _attended(v["attention"], y, y, 2)
    x = x + dense(v["down"], jax.nn.gelu(dense(v["up"], norm("norm2", x))))
    return dense(v["head"], norm("norm3", x)[:, 0])


@network(variables=_VIT, inputs=(data(2, 4, 6, 3),), groups=(group(6, _VIT_STREAM), *_VIT_REST), frozen=_VIT_FROZEN)
def patches_without_norms(v, x):
    return _vit(v, x, lambda name, x: x)


@network(
    variables={**_VIT, **{f"norm{i}": affine_shapes(6) for i in (1, 2, 3)}},
    inputs=(data(2, 4, 6, 3),),
    groups=(
        group(6, f"{_VIT_STREAM} {affine_places('norm1', 'norm2', 'norm3')}", exact=False),
        *_VIT_REST,
    ),
    frozen=_VIT_FROZEN,
)
def vision_transformer(v, x):
    return _vit(v, x, lambda name, x: layer_norm(v[name], x))


@network(
    variables={
        "source": (7, 6),
        "target": (9, 8),
        "encoder": _attention(6, 6, 4, 6),
        "decoder": _attention(8, 8, 6, 8),
        "cross": _attention(8, 6, 10, 8),
        "up": dense_shapes(8, 5),
        "down": dense_shapes(5, 8),
    },
    inputs=(tokens(2, 5, vocabulary=7), tokens(2, 3, vocabulary=9)),
    groups=(
        group(
            6,
            f"source:1 {out('encoder/out')} encoder/q/kernel:0 encoder/k/kernel:0 encoder/v/kernel:0 "
            "cross/k/kernel:0 cross/v/kernel:0",
        ),
        group(
            8,
            f"target:1 {out('decoder/out', 'cross/out', 'down')} decoder/q/kernel:0 decoder/k/kernel:0 "
            "decoder/v/kernel:0 cross/q/kernel:0 up/kernel:0",
        ),
        group(2, _heads("encoder", 2)),
        group(3, _heads("decoder", 2)),
        group(5, _heads("cross", 2)),
        group(5, f"{out('up')} down/kernel:0"),
    ),
    frozen="source:0 target:0",
)
def encoder_and_decoder(v, source, target):
    x = v["source"][source]
    x = x + _attended(v["encoder"], x, x, 2)
    y = v["target"][target]
    y = y + _attended(v["decoder"], y, y, 2)
    y = y + _attended(v["cross"], y, x, 2)
    y = y + dense(v["down"], relu(dense(v["up"], y)))
    return y @ v["target"].T


@network(
    variables={"latents": (4, 6), "attention": _attention(6, 3, 8, 6), "pool": (4,), "head": dense_shapes(6, 2)},
    inputs=(data(2, 5, 3),),
    groups=(
        group(4, "latents:0 pool:0"),  # a learnt query is a channel of the weighted sum
        group(6, f"latents:1 attention/q/kernel:0 {out('attention/out')} head/kernel:0"),
        group(2, _heads("attention", 4)),
    ),
    frozen=f"attention/k/kernel:0 attention/v/kernel:0 {out('head')}",
)
def learnt_queries(v, x):
    latents = jnp.broadcast_to(v["latents"][None], (x.shape[0], *v["latents"].shape))
    latents = latents + _attended(v["attention"], latents, x, 4)
    return dense(v["head"], jnp.einsum("l,bld->bd", v["pool"], latents))


@network(
    variables={"memory": (4, 6), "embed": dense_shapes(3, 6), "attention": _attention(6, 6, 8, 6), "head": (6, 2)},
    inputs=(data(2, 5, 3),),
    groups=(
        group(
            6,
            f"memory:1 {out('embed', 'attention/out')} attention/q/kernel:0 attention/k/kernel:0 "
            "attention/v/kernel:0 head:0",
        ),
        group(2, _heads("attention", 4)),
    ),
    frozen="memory:0 embed/kernel:0 head:1",  # the softmax sums over the memory, where a zero counts as 1
)
def learnt_prefix(v, x):
    x = dense(v["embed"], x)
    memory = jnp.broadcast_to(v["memory"][None], (x.shape[0], *v["memory"].shape))
    return (x + _attended(v["attention"], x, jnp.concatenate([memory, x], axis=1), 4)) @ v["head"]


_STACK = {
    "embed": dense_shapes(4, 6),
    "layers": {
        "qkv": {"kernel": (3, 6, 24), "bias": (3, 24)},
        "out": {"kernel": (3, 8, 6), "bias": (3, 6)},
        "up": {"kernel": (3, 6, 5), "bias": (3, 5)},
        "down": {"kernel": (3, 5, 6), "bias": (3, 6)},
    },
    "head": dense_shapes(6, 2),
}
_STACKED = {
    "variables": _STACK,
    "inputs": (data(2, 5, 4),),
    # an index goes from each of the three layers
    "groups": (
        group(
            6,
            f"{out('embed')} layers/qkv/kernel:1 layers/out/kernel:2 layers/out/bias:1 layers/up/kernel:1 "
            "layers/down/kernel:2 layers/down/bias:1 head/kernel:0",
        ),
        group(2, "layers/qkv/kernel:2/4 layers/qkv/bias:1/4 layers/out/kernel:1/4"),
        group(5, "layers/up/kernel:2 layers/up/bias:1 layers/down/kernel:1"),
    ),
    "frozen": "embed/kernel:0 layers/qkv/kernel:0 layers/qkv/bias:0 layers/out/kernel:0 layers/out/bias:0 "
    f"layers/up/kernel:0 layers/up/bias:0 layers/down/kernel:0 layers/down/bias:0 {out('head')}",
}


def _layer(x, v):
    q, k, y = (split_heads(part, 4) for part in jnp.split(dense(v["qkv"], x), 3, axis=-1))
    x = x + dense(v["out"], merge_heads(attend(q, k, y)))
    return x + dense(v["down"], relu(dense(v["up"], x))), None


@network(**_STACKED)
def scan_over_layers(v, x):
    x, _ = jax.lax.scan(_layer, dense(v["embed"], x), v["layers"])
    return dense(v["head"], x.mean(1))


@network(**_STACKED)
def scan_over_rematerialised_layers(v, x):
    x, _ = jax.lax.scan(jax.checkpoint(_layer), dense(v["embed"], x), v["layers"])
    return dense(v["head"], x.mean(1))


@network(
    variables={
        "embed": dense_shapes(4, 6),
        "layers": {"up": {"kernel": (6, 6, 6), "bias": (6, 6)}, "down": {"kernel": (6, 6, 6), "bias": (6, 6)}},
        "head": dense_shapes(6, 2),
    },
    inputs=(data(6, 4),),  # six layers of six channels, on six examples
    groups=(
        group(6, f"{out('embed')} layers/up/kernel:1 layers/down/kernel:2 layers/down/bias:1 head/kernel:0"),
        group(6, "layers/up/kernel:2 layers/up/bias:1 layers/down/kernel:1"),
    ),
    frozen=f"embed/kernel:0 layers/up/kernel:0 layers/up/bias:0 layers/down/kernel:0 layers/down/bias:0 {out('head')}",
)
def scan_of_equal_sizes(v, x):
    def layer(x, v):
        x = x + dense(v["down"], relu(dense(v["up"], x)))
        return x, x

    x, _ = jax.lax.scan(layer, dense(v["embed"], x), v["layers"])
    return dense(v["head"], x)
