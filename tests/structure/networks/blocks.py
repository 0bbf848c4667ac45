"""Convolutional blocks of concatenations and splits: UNet, C2f, dense connections."""

import jax
import jax.numpy as jnp

from tests.structure.networks._base import data, group, network
from tests.structure.networks._layers import (
    conv,
    conv_out,
    conv_shapes,
    dense,
    dense_shapes,
    out,
    pool_mean,
)

relu = jax.nn.relu


def _max_pool(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


_UNET = {
    "enc": conv_shapes(3, 4),
    "mid": conv_shapes(4, 6),
    "dec": conv_shapes(10, 5),
    "head": conv_shapes(5, 2, 1),
}
_UNET_FROZEN = "enc/kernel:012 mid/kernel:01 dec/kernel:01 head/kernel:3 head/bias:0"


@network(
    variables=_UNET,
    inputs=(data(2, 4, 8, 3),),
    groups=(
        group(4, f"{conv_out('enc')} mid/kernel:2 dec/kernel:2[6:]"),
        group(6, f"{conv_out('mid')} dec/kernel:2[:6]"),
        group(5, f"{conv_out('dec')} head/kernel:2"),
    ),
    frozen=_UNET_FROZEN,
)
def unet_repeated(v, x):
    skip = relu(conv(v["enc"], x))
    x = relu(conv(v["mid"], _max_pool(skip)))
    x = jnp.concatenate([x.repeat(2, axis=1).repeat(2, axis=2), skip], axis=-1)
    return conv(v["head"], relu(conv(v["dec"], x)))


@network(
    variables=_UNET,
    inputs=(data(2, 4, 8, 3),),
    groups=(
        group(4, f"{conv_out('enc')} mid/kernel:2 dec/kernel:2[:4]"),
        group(6, f"{conv_out('mid')} dec/kernel:2[4:]"),
        group(5, f"{conv_out('dec')} head/kernel:2"),
    ),
    frozen=_UNET_FROZEN,
)
def unet_resized(v, x):
    skip = relu(conv(v["enc"], x))
    x = relu(conv(v["mid"], _max_pool(skip)))
    x = jax.image.resize(x, (*skip.shape[:3], x.shape[3]), "bilinear")
    return conv(v["head"], relu(conv(v["dec"], jnp.concatenate([skip, x], axis=-1))))


@network(
    variables={**_UNET, "up": {"kernel": (2, 2, 6, 5)}, "dec": conv_shapes(9, 5)},
    inputs=(data(2, 4, 8, 3),),
    groups=(
        group(4, f"{conv_out('enc')} mid/kernel:2 dec/kernel:2[5:]"),
        group(6, f"{conv_out('mid')} up/kernel:2"),
        group(5, "up/kernel:3 dec/kernel:2[:5]"),
        group(5, f"{conv_out('dec')} head/kernel:2"),
    ),
    frozen=f"{_UNET_FROZEN} up/kernel:01",
)
def unet_transposed_convolution(v, x):
    skip = relu(conv(v["enc"], x))
    x = relu(conv(v["mid"], _max_pool(skip)))
    x = jax.lax.conv_transpose(x, v["up"]["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return conv(v["head"], relu(conv(v["dec"], jnp.concatenate([x, skip], axis=-1))))


_BOTTLENECK = {"conv1": conv_shapes(5, 4), "conv2": conv_shapes(4, 5)}
_C2F_FROZEN = (
    "cv1/kernel:2 block1/conv1/kernel:01 block1/conv2/kernel:01 block2/conv1/kernel:01 block2/conv2/kernel:01 "
    f"{out('head')}"
)


def _bottleneck(v, x):
    return relu(conv(v["conv2"], relu(conv(v["conv1"], x))))


def _c2f(v, x, shortcut):
    width = v["block1"]["conv1"]["kernel"].shape[2]
    parts = list(jnp.split(relu(conv(v["cv1"], x)), [v["cv1"]["kernel"].shape[3] - width], axis=-1))  # 3 and 5
    for block in (v["block1"], v["block2"]):
        parts.append(_bottleneck(block, parts[-1]) + (parts[-1] if shortcut else 0.0))
    return dense(v["head"], pool_mean(relu(conv(v["cv2"], jnp.concatenate(parts, axis=-1)))))


_C2F = {
    "cv1": conv_shapes(3, 8, 1),
    "block1": _BOTTLENECK,
    "block2": _BOTTLENECK,
    "cv2": conv_shapes(18, 6, 1),
    "head": dense_shapes(6, 2),
}
_C2F_REST = (
    group(3, "cv1/kernel:3[:3] cv1/bias:0[:3] cv2/kernel:2[:3]"),
    group(4, f"{conv_out('block1/conv1')} block1/conv2/kernel:2"),
    group(4, f"{conv_out('block2/conv1')} block2/conv2/kernel:2"),
    group(6, f"{conv_out('cv2')} head/kernel:0"),
)


@network(
    variables=_C2F,
    inputs=(data(2, 5, 4, 3),),
    groups=(
        *_C2F_REST,
        group(
            5,
            f"cv1/kernel:3[3:] cv1/bias:0[3:] {conv_out('block1/conv2', 'block2/conv2')} "
            "block1/conv1/kernel:2 block2/conv1/kernel:2 cv2/kernel:2[3:]",
        ),
    ),
    frozen=_C2F_FROZEN,
)
def c2f_with_shortcuts(v, x):
    return _c2f(v, x, shortcut=True)


@network(
    variables=_C2F,
    inputs=(data(2, 5, 4, 3),),
    groups=(
        *_C2F_REST,
        group(5, "cv1/kernel:3[3:] cv1/bias:0[3:] block1/conv1/kernel:2 cv2/kernel:2[3:8]"),
        group(5, f"{conv_out('block1/conv2')} block2/conv1/kernel:2 cv2/kernel:2[8:13]"),
        group(5, f"{conv_out('block2/conv2')} cv2/kernel:2[13:]"),
    ),
    frozen=_C2F_FROZEN,
)
def c2f_without_shortcuts(v, x):
    return _c2f(v, x, shortcut=False)


@network(
    variables={"cv1": conv_shapes(3, 8, 1), "shared": conv_shapes(4, 5), "head": dense_shapes(10, 2)},
    inputs=(data(2, 5, 4, 3),),
    # one layer on both halves of the channels: i and i + 4 enter as its input i
    groups=(
        group(4, f"{conv_out('cv1')} shared/kernel:2"),
        group(5, f"{conv_out('shared')} head/kernel:0"),
    ),
    frozen=f"cv1/kernel:2 shared/kernel:01 {out('head')}",
)
def shared_layer_on_two_slices(v, x):
    halves = jnp.split(relu(conv(v["cv1"], x)), 2, axis=-1)
    x = jnp.concatenate([relu(conv(v["shared"], half)) for half in halves], axis=-1)
    return dense(v["head"], pool_mean(x))


@network(
    variables={
        "stem": conv_shapes(3, 4),
        "layer1": conv_shapes(4, 2),
        "layer2": conv_shapes(6, 3),
        "head": dense_shapes(9, 5),
    },
    inputs=(data(2, 5, 4, 3),),
    groups=(
        group(4, f"{conv_out('stem')} layer1/kernel:2 layer2/kernel:2[:4] head/kernel:0[:4]"),
        group(2, f"{conv_out('layer1')} layer2/kernel:2[4:] head/kernel:0[4:6]"),
        group(3, f"{conv_out('layer2')} head/kernel:0[6:]"),
    ),
    frozen=f"stem/kernel:012 layer1/kernel:01 layer2/kernel:01 {out('head')}",
)
def densely_connected(v, x):
    x = relu(conv(v["stem"], x))
    for layer in (v["layer1"], v["layer2"]):
        x = jnp.concatenate([x, relu(conv(layer, x))], axis=-1)
    return dense(v["head"], pool_mean(x))


@network(
    variables={"stem": conv_shapes(3, 4), "next": conv_shapes(7, 5), "head": dense_shapes(5, 2)},
    inputs=(data(2, 5, 4, 3),),
    groups=(
        group(4, f"{conv_out('stem')} next/kernel:2[3:]"),  # the first three rows hold the image itself
        group(5, f"{conv_out('next')} head/kernel:0"),
    ),
    frozen=f"stem/kernel:012 next/kernel:01 {out('head')}",
)
def concatenated_with_the_input(v, x):
    x = jnp.concatenate([x, relu(conv(v["stem"], x))], axis=-1)
    return dense(v["head"], pool_mean(relu(conv(v["next"], x))))
