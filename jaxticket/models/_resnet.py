"""Residual networks with batch norm after each convolution: for CIFAR (20, 32, 56) and for ImageNet (18, 50)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._checks import check_images, check_sizes
from jaxticket.models import _layers
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model
from jaxticket.typing import Key, Params, PyTree


class _Layer(NamedTuple):
    """One convolution of a block."""

    size: int  # of the kernel
    expansion: int  # output channels in multiples of the stage's


_BASIC = (_Layer(3, 1), _Layer(3, 1))
_BOTTLENECK = (_Layer(1, 1), _Layer(3, 1), _Layer(1, 4))


class _Stem(NamedTuple):
    """The entry of images into the first stage."""

    size: int  # of the kernel
    strides: int
    pooled: bool


_SMALL = _Stem(3, 1, pooled=False)
_LARGE = _Stem(7, 2, pooled=True)


def resnet_20(*, classes: int = 10, width: int = 16, channels: int = 3) -> Model:
    """Build ResNet-20 for CIFAR: three stages of three blocks, of `width`, 2 · `width` and 4 · `width` channels.

    It follows He et al., "Deep Residual Learning" (2016), in the variant of open_lth. With it Frankle et al.,
    "Linear Mode Connectivity and the Lottery Ticket Hypothesis" (2020) introduced late rewinding. Where a stage begins,
    the shortcut is a strided 1 × 1 convolution with batch norm (option B; He's option A has no parameters there).
    Kernels are Kaiming-normal, norm scales uniform in [0, 1). It has 272,474 parameters: He's 269,722 and 2,752 in the
    shortcuts. The number of blocks is read from the parameters.

    Args:
      classes: the number of logits.
      width: the number of channels of the first stage.
      channels: the number of channels of an image.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1.

    Examples:
      >>> import jax
      >>> params, state = jax.eval_shape(resnet_20(width=4).init, jax.random.key(0))
      >>> sorted(params["stage2"]["block1"])
      ['layer1', 'layer2', 'shortcut']
      >>> state["stage2"]["block1"]["shortcut"]["norm"]["mean"].shape
      (8,)
    """
    return _resnet(_BASIC, (3, 3, 3), _SMALL, classes, width, channels)


def resnet_32(*, classes: int = 10, width: int = 16, channels: int = 3) -> Model:
    """Build ResNet-32 for CIFAR: `resnet_20` with five blocks a stage. 466,906 parameters.

    Args:
      classes: the number of logits.
      width: the number of channels of the first stage.
      channels: the number of channels of an image.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1.
    """
    return _resnet(_BASIC, (5, 5, 5), _SMALL, classes, width, channels)


def resnet_56(*, classes: int = 10, width: int = 16, channels: int = 3) -> Model:
    """Build ResNet-56 for CIFAR: `resnet_20` with nine blocks a stage. 855,770 parameters.

    Args:
      classes: the number of logits.
      width: the number of channels of the first stage.
      channels: the number of channels of an image.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1.
    """
    return _resnet(_BASIC, (9, 9, 9), _SMALL, classes, width, channels)


def resnet_18(*, classes: int = 1000, width: int = 64, channels: int = 3, small_images: bool = False) -> Model:
    """Build ResNet-18 for ImageNet: four stages of two blocks, of `width` to 8 · `width` channels.

    It follows He et al. (2016) with option B shortcuts, drawn as in open_lth: Kaiming-normal kernels, norm scales
    uniform in [0, 1). The stem is a strided 7 × 7 convolution and a max-pool. It has 11,689,512 parameters with the
    defaults.

    Args:
      classes: the number of logits.
      width: the number of channels of the first stage.
      channels: the number of channels of an image.
      small_images: whether the stem is one 3 × 3 convolution, as where papers train this network on CIFAR (Chen et al.,
        "Coarsening the Granularity", 2022).

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1.

    Examples:
      >>> import jax
      >>> model = resnet_18(classes=10, small_images=True)
      >>> params, state = jax.eval_shape(model.init, jax.random.key(0))
      >>> sum(leaf.size for leaf in jax.tree.leaves(params))
      11173962
    """
    return _resnet(_BASIC, (2, 2, 2, 2), _SMALL if small_images else _LARGE, classes, width, channels)


def resnet_50(*, classes: int = 1000, width: int = 64, channels: int = 3) -> Model:
    """Build ResNet-50 for ImageNet: `resnet_18` with 3, 4, 6 and 3 bottleneck blocks, of four times as many outputs.

    The 3 × 3 convolution of a block strides, as in torchvision, not the first 1 × 1 as in the paper. It has 25,557,032
    parameters.

    Args:
      classes: the number of logits.
      width: the number of channels of the first stage's inner convolutions.
      channels: the number of channels of an image.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1.
    """
    return _resnet(_BOTTLENECK, (3, 4, 6, 3), _LARGE, classes, width, channels)


def slim_resnet(
    stem: int, stages: Sequence[Sequence[tuple[int, int]]], *, classes: int = 10, channels: int = 3
) -> Model:
    """Build a residual network for small images in which every convolution has its own width, such as a search finds.

    It is `resnet_20` but for its sizes: the first block of each stage but the first halves the image and has a shortcut
    convolution as wide as its output. Where a block is narrower or wider than the stream, the sum adds onto the first
    channels of the wider, as in Dong and Yang, "Network Pruning via Transformable Architecture Search" (2019). Thus
    the stream of a stage is as wide as its widest block so far.

    Args:
      stem: the width of the first convolution.
      stages: for each stage, for each of its blocks, the widths of its two convolutions.
      classes: the number of logits.
      channels: the number of channels of an image.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, or no stage or block.

    Examples:
      >>> import jax
      >>> model = slim_resnet(4, [[(3, 6)], [(5, 8), (5, 7)]])
      >>> params, state = jax.eval_shape(model.init, jax.random.key(0))
      >>> params["stage2"]["block2"]["layer1"]["conv"]["kernel"].shape, params["output"]["kernel"].shape
      ((3, 3, 8, 5), (8, 10))
    """
    check_sizes(
        stem=stem, classes=classes, channels=channels, stages=len(stages), blocks=min(map(len, stages), default=0)
    )
    check_sizes(widths=min(min(block) for stage in stages for block in stage))

    def draw(rngs: nnx.Rngs) -> _layers.Layers:
        layers: _layers.Layers = {"stem": _layers.new_conv_norm(3, channels, stem, rngs)}
        stream = stem
        for index, blocks in enumerate(stages, start=1):
            layers[f"stage{index}"] = {}
            for number, (inner, outer) in enumerate(blocks, start=1):
                block = {
                    "layer1": _layers.new_conv_norm(3, stream, inner, rngs),
                    "layer2": _layers.new_conv_norm(3, inner, outer, rngs),
                }
                if index > 1 and number == 1:
                    block["shortcut"] = _layers.new_conv_norm(1, stream, outer, rngs)
                    stream = outer
                layers[f"stage{index}"][f"block{number}"], stream = block, max(stream, outer)
        return {**layers, "output": _layers.new_dense(stream, classes, _layers.kaiming_normal, rngs)}

    return Model(lambda key: _layers.pure(draw(_layers.keys(key))), _apply(_SMALL, "layer1", len(stages)))


def _resnet(
    block: tuple[_Layer, ...], depths: tuple[int, ...], stem: _Stem, classes: int, width: int, channels: int
) -> Model:
    check_sizes(classes=classes, width=width, channels=channels)
    stages = tuple(f"stage{index}" for index in range(1, len(depths) + 1))
    strided = "layer1" if block == _BASIC else "layer2"

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs, inputs = _layers.keys(key), width
        layers: _layers.Layers = {"stem": _layers.new_conv_norm(stem.size, channels, width, rngs)}
        for index, (stage, depth) in enumerate(zip(stages, depths, strict=True)):
            layers[stage] = {}
            for number in range(1, depth + 1):
                new = _new_block(block, inputs, width * 2**index, rngs)
                layers[stage][f"block{number}"], inputs = new, width * 2**index * block[-1].expansion
        layers["output"] = _layers.new_dense(inputs, classes, _layers.kaiming_normal, rngs)
        return _layers.pure(layers)

    return Model(init, _apply(stem, strided, len(depths)))


def _apply(stem: _Stem, strided: str, count: int) -> Callable[..., tuple[jax.Array, PyTree]]:
    """Return the network of `count` stages; in the first block of all but one, layers called `strided` halve images."""
    stages = tuple(f"stage{index}" for index in range(1, count + 1))

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
        del key  # no dropout
        check_images(x, params["stem"]["conv"]["kernel"])
        new: dict[str, PyTree] = {stage: {} for stage in stages}
        x, new["stem"] = _layers.conv_norm(params["stem"], state["stem"], x, strides=stem.strides, train=train)
        x = jax.nn.relu(x)
        if stem.pooled:
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for index, stage in enumerate(stages):
            for number, name in enumerate(_tree.in_order(params[stage])):
                strides = {strided: 2, "shortcut": 2} if index and not number else {}
                x, new[stage][name] = _block(params[stage][name], state[stage][name], x, strides, train=train)
        return _layers.dense(params["output"], jnp.mean(x, axis=(1, 2))), new

    return apply


def _new_block(block: tuple[_Layer, ...], inputs: int, width: int, rngs: nnx.Rngs) -> _layers.Layers:
    """Make a block's layers, and a shortcut where its output has other channels than its input.

    Every block that strides has a shortcut: channels double where a stage begins.
    """
    layers, channels = {}, inputs
    for index, (size, expansion) in enumerate(block, start=1):
        layers[f"layer{index}"] = _layers.new_conv_norm(size, channels, width * expansion, rngs)
        channels = width * expansion
    if channels != inputs:
        layers["shortcut"] = _layers.new_conv_norm(1, inputs, channels, rngs)
    return layers


def _block(
    params: Params, statistics: PyTree, x: jax.Array, strides: dict[str, int], *, train: bool
) -> tuple[jax.Array, PyTree]:
    """Return relu(layers(x) + shortcut(x)), with a ReLU between the layers; strides are 1 but for the layers named."""
    new: dict[str, PyTree] = {}

    def layer(name: str, x: jax.Array) -> jax.Array:
        x, new[name] = _layers.conv_norm(params[name], statistics[name], x, strides=strides.get(name, 1), train=train)
        return x

    shortcut = layer("shortcut", x) if "shortcut" in params else x
    first, *others = (name for name in sorted(params) if name != "shortcut")
    x = layer(first, x)
    for name in others:
        x = layer(name, jax.nn.relu(x))
    return jax.nn.relu(_add_first(x, shortcut)), new


def _add_first(x: jax.Array, other: jax.Array) -> jax.Array:
    """Return the sum, where the narrower has zeros for the last channels of the wider."""
    width = max(x.shape[-1], other.shape[-1])
    widen = lambda a: a if a.shape[-1] == width else jnp.pad(a, [(0, 0)] * 3 + [(0, width - a.shape[-1])])
    return widen(x) + widen(other)
