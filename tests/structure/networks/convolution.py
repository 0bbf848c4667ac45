"""Convolutional networks: batch normalisation, streams, pooling, flattening, and other norms."""

import operator

import jax
import jax.numpy as jnp

from tests.structure.networks._base import data, group, network
from tests.structure.networks._layers import (
    affine_places,
    affine_shapes,
    batch_norm,
    batch_norm_train,
    conv,
    conv_out,
    conv_shapes,
    dense,
    dense_shapes,
    depthwise,
    last,
    layer_norm,
    norm_places,
    norm_shapes,
    out,
    pool_mean,
)

relu = jax.nn.relu

_IMAGES = data(2, 6, 7, 3)
_CNN = {
    "conv1": conv_shapes(3, 5),
    "bn1": norm_shapes(5),
    "conv2": conv_shapes(5, 4),
    "bn2": norm_shapes(4),
    "head": dense_shapes(4, 2),
}
_CNN_GROUPS = (
    group(5, f"{conv_out('conv1')} {norm_places('bn1')} conv2/kernel:2"),
    group(4, f"{conv_out('conv2')} {norm_places('bn2')} head/kernel:0"),
)
_CNN_FROZEN = f"conv1/kernel:012 conv2/kernel:01 {out('head')}"


@network(variables=_CNN, inputs=(_IMAGES,), groups=_CNN_GROUPS, frozen=_CNN_FROZEN)
def cnn_evaluated(v, x):
    x = relu(batch_norm(v["bn1"], conv(v["conv1"], x)))
    return dense(v["head"], pool_mean(relu(batch_norm(v["bn2"], conv(v["conv2"], x, stride=2)))))


def _train(v, x):
    x, new1 = batch_norm_train(v["bn1"], conv(v["conv1"], x))
    x, new2 = batch_norm_train(v["bn2"], conv(v["conv2"], relu(x)))
    return dense(v["head"], pool_mean(relu(x))), {"bn1": new1, "bn2": new2}


@network(
    variables=_CNN,
    inputs=(_IMAGES,),
    # The logits do not depend on the running statistics, but the new ones do: they are members all the same.
    groups=_CNN_GROUPS,
    frozen=_CNN_FROZEN,
    outputs=operator.itemgetter(0),
)
def cnn_trained(v, x):
    return _train(v, x)


@network(
    variables=_CNN,
    inputs=(_IMAGES,),
    # All outputs keep their shape, and the new statistics are outputs.
    frozen=f"conv1/kernel:0123 conv1/bias:0 conv2/kernel:0123 conv2/bias:0 {norm_places('bn1', 'bn2')} "
    "head/kernel:01 head/bias:0",
)
def cnn_trained_of_fixed_statistics(v, x):
    return _train(v, x)


_RES = {"conv1": conv_shapes(5, 4), "bn": norm_shapes(4), "conv2": conv_shapes(4, 5)}


@network(
    variables={"stem": conv_shapes(3, 5), "block1": _RES, "block2": _RES, "head": dense_shapes(5, 2)},
    inputs=(_IMAGES,),
    groups=(
        group(
            5,
            f"{conv_out('stem', 'block1/conv2', 'block2/conv2')} block1/conv1/kernel:2 block2/conv1/kernel:2 "
            "head/kernel:0",
        ),
        group(4, f"{conv_out('block1/conv1')} {norm_places('block1/bn')} block1/conv2/kernel:2"),
        group(4, f"{conv_out('block2/conv1')} {norm_places('block2/bn')} block2/conv2/kernel:2"),
    ),
    frozen="stem/kernel:012 block1/conv1/kernel:01 block1/conv2/kernel:01 block2/conv1/kernel:01 "
    f"block2/conv2/kernel:01 {out('head')}",
)
def residual_blocks(v, x):
    x = relu(conv(v["stem"], x))
    for block in (v["block1"], v["block2"]):
        x = relu(x + conv(block["conv2"], relu(batch_norm(block["bn"], conv(block["conv1"], x)))))
    return dense(v["head"], pool_mean(x))


@network(
    variables={
        "stem": conv_shapes(3, 4),
        "conv": conv_shapes(4, 6),
        "head": dense_shapes(6, 2),
    },
    inputs=(data(2, 6, 8, 3),),
    groups=(
        group(4, f"{conv_out('stem')} conv/kernel:2 conv/kernel:3[:4] conv/bias:0[:4] head/kernel:0[:4]"),
        # Channels that meet only the shortcut's zeros. An implementation that freezes padded axes freezes both groups.
        group(2, "conv/kernel:3[4:] conv/bias:0[4:] head/kernel:0[4:]", required=False),
    ),
    frozen=f"stem/kernel:012 conv/kernel:01 {out('head')}",
    polymorphic=False,
)
def shortcut_of_padded_channels(v, x):
    x = relu(conv(v["stem"], x))
    shortcut = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, 2)))
    return dense(v["head"], pool_mean(relu(shortcut + conv(v["conv"], x, stride=2))))


_FLAT_GROUP_FROZEN = f"conv/kernel:012 {out('head')}"


def _pooled(init, reduce, x):
    return jax.lax.reduce_window(x, init, reduce, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


@network(
    variables={"conv": conv_shapes(3, 5), "head": dense_shapes(30, 2)},
    inputs=(data(2, 4, 6, 3),),
    groups=(group(5, f"{conv_out('conv')} head/kernel:0"),),  # rows c, c + 5, ..., c + 25
    frozen=_FLAT_GROUP_FROZEN,
)
def max_pool_and_flatten(v, x):
    x = _pooled(-jnp.inf, jax.lax.max, relu(conv(v["conv"], x)))
    return dense(v["head"], x.reshape(x.shape[0], -1))


@network(
    variables={"conv": conv_shapes(3, 5), "fc": dense_shapes(30, 6), "head": dense_shapes(6, 2)},
    inputs=(data(2, 3, 4, 6),),
    groups=(
        group(5, f"{conv_out('conv')} fc/kernel:0/6"),  # rows 6c, ..., 6c + 5
        group(6, f"{out('fc')} head/kernel:0"),
    ),
    frozen=f"conv/kernel:012 {out('head')}",
)
def average_pool_and_flatten_channels_first(v, x):
    x = conv(v["conv"], jnp.moveaxis(x, 1, -1))
    x = jnp.moveaxis(_pooled(0.0, jax.lax.add, x) / 4, -1, 1)
    return dense(v["head"], relu(dense(v["fc"], x.reshape(x.shape[0], -1))))


@network(
    variables={"fc": dense_shapes(3, 24), "conv": conv_shapes(4, 2)},
    inputs=(data(2, 3),),
    groups=(group(4, "fc/kernel:1 fc/bias:0 conv/kernel:2"),),  # the kernel freezes height and width
    frozen="fc/kernel:0 conv/kernel:013 conv/bias:0",
)
def dense_to_image(v, x):
    return conv(v["conv"], relu(dense(v["fc"], x)).reshape(x.shape[0], 2, 3, -1))


@network(
    variables={"fc": dense_shapes(3, 24), "conv": {"kernel": (2, 4, 3, 3), "bias": (2,)}},
    inputs=(data(2, 3),),
    groups=(group(4, "fc/kernel:1/6 fc/bias:0/6 conv/kernel:1"),),
    frozen="fc/kernel:0 conv/kernel:023 conv/bias:0",
)
def dense_to_image_channels_first(v, x):
    return conv(v["conv"], relu(dense(v["fc"], x)).reshape(x.shape[0], -1, 2, 3), layout="NCHW")


@network(
    variables={"stem": conv_shapes(3, 6), "norm": affine_shapes(6), "head": dense_shapes(6, 2)},
    inputs=(_IMAGES,),
    # Whole groups of two: the reshape's first axis is live, the second is averaged away, so removal is exact.
    groups=(group(3, f"stem/kernel:3/2 stem/bias:0/2 {affine_places('norm').replace(':0', ':0/2')} head/kernel:0/2"),),
    frozen=f"stem/kernel:012 {out('head')}",
)
def group_norm(v, x):
    x = conv(v["stem"], x)
    grouped = x.reshape(*x.shape[:3], -1, 2)
    mean, var = (f(grouped, axis=(1, 2, 4), keepdims=True) for f in (jnp.mean, jnp.var))
    x = ((grouped - mean) * jax.lax.rsqrt(var + 1e-5)).reshape(x.shape)
    return dense(v["head"], pool_mean(relu(x * last(v["norm"]["scale"], x) + last(v["norm"]["bias"], x))))


@network(
    variables={"stem": conv_shapes(3, 5), "norm": affine_shapes(5), "head": dense_shapes(5, 2)},
    inputs=(_IMAGES,),
    groups=(group(5, f"{conv_out('stem')} {affine_places('norm')} head/kernel:0"),),
    frozen=f"stem/kernel:012 {out('head')}",
)
def instance_norm(v, x):
    x = conv(v["stem"], x)
    x = (x - x.mean((1, 2), keepdims=True)) * jax.lax.rsqrt(x.var((1, 2), keepdims=True) + 1e-5)
    return dense(v["head"], pool_mean(relu(x * last(v["norm"]["scale"], x) + last(v["norm"]["bias"], x))))


@network(
    variables={
        "stem": conv_shapes(3, 5),
        "depth": {"kernel": (3, 3, 1, 5), "bias": (5,)},
        "norm": affine_shapes(5),
        "up": dense_shapes(5, 7),
        "down": dense_shapes(7, 5),
        "head": dense_shapes(5, 2),
    },
    inputs=(_IMAGES,),
    groups=(
        group(
            5,
            f"{conv_out('stem', 'depth')} {affine_places('norm')} up/kernel:0 {out('down')} head/kernel:0",
            exact=False,
        ),
        group(7, f"{out('up')} down/kernel:0"),
    ),
    frozen=f"stem/kernel:012 depth/kernel:01 {out('head')}",
)
def convnext_block(v, x):
    x = conv(v["stem"], x)
    h = layer_norm(v["norm"], depthwise(v["depth"], x))
    return dense(v["head"], pool_mean(x + dense(v["down"], jax.nn.gelu(dense(v["up"], h)))))


@network(
    variables={"conv1": conv_shapes(3, 5), "conv2": conv_shapes(5, 4), "head": dense_shapes(4, 2)},
    inputs=(_IMAGES,),
    groups=(
        group(5, f"{conv_out('conv1')} conv2/kernel:2", exact=False),  # the kernel's mean runs over its inputs
        group(4, f"{conv_out('conv2')} head/kernel:0"),
    ),
    frozen=f"conv1/kernel:012 conv2/kernel:01 {out('head')}",
)
def weight_standardisation(v, x):
    def standard(layer):
        kernel = layer["kernel"]
        centred = kernel - kernel.mean((0, 1, 2), keepdims=True)
        return {**layer, "kernel": centred * jax.lax.rsqrt(kernel.var((0, 1, 2), keepdims=True) + 1e-5)}

    x = relu(conv(standard(v["conv1"]), x))
    return dense(v["head"], pool_mean(relu(conv(standard(v["conv2"]), x))))
