"""Rearrangements of pixels, gates by channel and by pixel, and a convolution over text."""

import jax
import jax.numpy as jnp

from tests.structure.networks._base import data, group, network
from tests.structure.networks._layers import (
    affine_places,
    affine_shapes,
    conv,
    conv_out,
    conv_shapes,
    dense,
    dense_shapes,
    last,
    layer_norm,
    out,
    pool_mean,
)

relu = jax.nn.relu


_SHUFFLE = {"conv": conv_shapes(3, 12), "next": conv_shapes(3, 2)}
_SHUFFLE_FROZEN = "conv/kernel:012 next/kernel:013 next/bias:0"


@network(
    variables=_SHUFFLE,
    inputs=(data(2, 4, 5, 3),),
    groups=(group(3, "conv/kernel:3/4 conv/bias:0/4 next/kernel:2"),),  # 4c, ..., 4c + 3
    frozen=_SHUFFLE_FROZEN,
)
def pixel_shuffle_channels_first(v, x):
    x = conv(v["conv"], x)
    b, h, w, _ = x.shape
    x = x.reshape(b, h, w, -1, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, -1)
    return conv(v["next"], relu(x))


@network(
    variables=_SHUFFLE,
    inputs=(data(2, 4, 5, 3),),
    # c, c + 3, c + 6, c + 9: both first axes end in height and width, which the next kernel freezes
    groups=(group(3, "conv/kernel:3 conv/bias:0 next/kernel:2"),),
    frozen=_SHUFFLE_FROZEN,
)
def pixel_shuffle_channels_last(v, x):
    x = conv(v["conv"], x)
    b, h, w, _ = x.shape
    x = x.reshape(b, h, w, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, -1)
    return conv(v["next"], relu(x))


@network(
    variables={"conv": conv_shapes(3, 5), "next": conv_shapes(20, 4), "head": dense_shapes(4, 2)},
    inputs=(data(2, 4, 6, 3),),
    groups=(
        group(5, f"{conv_out('conv')} next/kernel:2"),  # c, c + 5, c + 10, c + 15
        group(4, f"{conv_out('next')} head/kernel:0"),
    ),
    frozen=f"conv/kernel:012 next/kernel:01 {out('head')}",
)
def space_to_depth(v, x):
    x = relu(conv(v["conv"], x))
    b, h, w, _ = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, -1).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, -1)
    return dense(v["head"], pool_mean(relu(conv(v["next"], x))))


@network(
    variables={
        "stem": conv_shapes(3, 6),
        "norm": affine_shapes(24),
        "merge": {"kernel": (24, 8)},
        "head": dense_shapes(8, 2),
    },
    inputs=(data(2, 4, 6, 3),),
    groups=(
        group(6, f"{conv_out('stem')} {affine_places('norm')} merge/kernel:0", exact=False),
        group(8, "merge/kernel:1 head/kernel:0"),
    ),
    frozen=f"stem/kernel:012 {out('head')}",
)
def patch_merging(v, x):
    """The four strided pieces of a hierarchical transformer, one channel in each."""
    x = conv(v["stem"], x)
    corners = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    x = layer_norm(v["norm"], jnp.concatenate(corners, axis=-1)) @ v["merge"]["kernel"]
    return dense(v["head"], pool_mean(x))


_GATE = {
    "conv": conv_shapes(3, 6),
    "squeeze": dense_shapes(6, 4),
    "excite": dense_shapes(4, 6),
    "next": conv_shapes(6, 5),
    "head": dense_shapes(5, 2),
}


@network(
    variables=_GATE,
    inputs=(data(2, 4, 5, 3),),
    groups=(
        group(6, f"{conv_out('conv')} squeeze/kernel:0 {out('excite')} next/kernel:2"),
        group(4, f"{out('squeeze')} excite/kernel:0"),
        group(5, f"{conv_out('next')} head/kernel:0"),
    ),
    frozen=f"conv/kernel:012 next/kernel:01 {out('head')}",
)
def squeeze_and_excitation(v, x):
    x = relu(conv(v["conv"], x))
    gate = dense(v["excite"], relu(dense(v["squeeze"], pool_mean(x))))
    x = x * jax.nn.sigmoid(gate)[:, None, None, :]  # [B, 1, 1, C]
    return dense(v["head"], pool_mean(relu(conv(v["next"], x))))


@network(
    variables={
        "conv": {"kernel": (6, 3, 3, 3), "bias": (6,)},
        "squeeze": {"kernel": (4, 6, 1, 1), "bias": (4,)},
        "excite": {"kernel": (6, 4, 1, 1), "bias": (6,)},
        "head": dense_shapes(6, 2),
    },
    inputs=(data(2, 3, 4, 5),),
    groups=(
        group(6, "conv/kernel:0 conv/bias:0 squeeze/kernel:1 excite/kernel:0 excite/bias:0 head/kernel:0"),
        group(4, "squeeze/kernel:0 squeeze/bias:0 excite/kernel:1"),
    ),
    frozen=f"conv/kernel:123 {out('head')}",
)
def squeeze_and_excitation_channels_first(v, x):
    x = relu(conv(v["conv"], x, layout="NCHW"))
    gate = x.mean((2, 3), keepdims=True)  # [B, C, 1, 1]
    gate = conv(v["excite"], relu(conv(v["squeeze"], gate, layout="NCHW")), layout="NCHW")
    return dense(v["head"], (x * jax.nn.hard_sigmoid(gate)).sum((2, 3)))


@network(
    variables={
        "conv": conv_shapes(3, 5),
        "map": conv_shapes(5, 1),
        "next": conv_shapes(5, 4),
        "head": dense_shapes(4, 2),
    },
    inputs=(data(2, 4, 6, 3),),
    groups=(
        group(5, f"{conv_out('conv')} map/kernel:2 next/kernel:2"),  # a zip with the map would tie channel 0 to it
        group(4, f"{conv_out('next')} head/kernel:0"),
    ),
    frozen=f"conv/kernel:012 map/kernel:01 next/kernel:01 {out('head')}",
)
def map_of_one_channel(v, x):
    x = relu(conv(v["conv"], x))
    x = x * jax.nn.sigmoid(conv(v["map"], x))
    return dense(v["head"], pool_mean(relu(conv(v["next"], x))))


@network(
    variables={"embed": (9, 5), "conv": {"kernel": (3, 5, 6), "bias": (6,)}, "head": dense_shapes(6, 2)},
    inputs=(jnp.asarray([[1, 4, 8, 0, 3, 3, 7], [2, 2, 6, 5, 1, 0, 8]]),),
    groups=(group(5, "embed:1 conv/kernel:1"), group(6, "conv/kernel:2 conv/bias:0 head/kernel:0")),
    frozen=f"embed:0 conv/kernel:0 {out('head')}",
)
def text_convolution(v, ids):
    x = jnp.take(v["embed"], ids, axis=0)
    x = jax.lax.conv_general_dilated(x, v["conv"]["kernel"], (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))
    return dense(v["head"], relu(x + last(v["conv"]["bias"], x)).max(1))
