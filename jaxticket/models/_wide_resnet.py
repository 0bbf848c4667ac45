"""Wide residual networks: batch norm and ReLU before each convolution."""

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._checks import check_images, check_sizes
from jaxticket.errors import InputError
from jaxticket.models import _layers
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model
from jaxticket.typing import Key, Params, PyTree

_STAGES = ("stage1", "stage2", "stage3")
_FILTERS = 16  # of the stem, and of stage 1 at width 1
_INIT = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


def wide_resnet(*, depth: int = 28, width: int = 10, classes: int = 10, channels: int = 3) -> Model:
    """Build WRN-`depth`-`width` for CIFAR: three stages of (depth − 4) / 6 blocks, of 16, 32 and 64 times `width`
    channels.

    It follows Zagoruyko & Komodakis, "Wide Residual Networks" (2016), without their optional dropout: pre-activation
    blocks, whose shortcut is a 1 × 1 convolution of the activated input where the channels change. Kernels are
    Kaiming-normal by fan-out, norm scales 1, as in the authors' code. It has 36,479,194 parameters with the defaults.
    The number of blocks is read from the parameters.

    Args:
      depth: 6 · n + 4, for n blocks a stage.
      width: the factor of the channels.
      classes: the number of logits.
      channels: the number of channels of an image.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, or a depth that is not 6 · n + 4.

    Examples:
      >>> import jax
      >>> params, state = jax.eval_shape(wide_resnet(depth=10, width=1).init, jax.random.key(0))
      >>> sorted(params["stage1"]["block1"]), sorted(params["stage2"]["block1"])
      (['layer1', 'layer2'], ['layer1', 'layer2', 'shortcut'])
    """
    check_sizes(width=width, classes=classes, channels=channels)
    if depth < 10 or depth % 6 != 4:
        raise InputError(f"depth={depth} must be 6 · n + 4: 10, 16, 22, 28, …")

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs, inputs = _layers.keys(key), _FILTERS
        layers: _layers.Layers = {"stem": {"conv": _new_conv(3, channels, inputs, rngs)}}
        for index, stage in enumerate(_STAGES):
            layers[stage], outputs = {}, _FILTERS * width * 2**index
            for number in range(1, (depth - 4) // 6 + 1):
                layers[stage][f"block{number}"] = _new_block(inputs, outputs, rngs)
                inputs = outputs
        layers["norm"] = _new_norm(inputs, rngs)
        layers["output"] = _layers.new_dense(inputs, classes, _layers.kaiming_normal, rngs)
        return _layers.pure(layers)

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
        del key  # no dropout
        check_images(x, params["stem"]["conv"]["kernel"])
        new: dict[str, PyTree] = {stage: {} for stage in _STAGES}
        x = _layers.conv(params["stem"]["conv"], x)
        for index, stage in enumerate(_STAGES):
            for number, name in enumerate(_tree.in_order(params[stage])):
                strides = 2 if index and not number else 1
                x, new[stage][name] = _block(params[stage][name], state[stage][name], x, strides=strides, train=train)
        x, new["norm"] = _layers.batch_norm(params["norm"], state["norm"], x, train=train)
        return _layers.dense(params["output"], jnp.mean(jax.nn.relu(x), axis=(1, 2))), new

    return Model(init, apply)


def _new_conv(size: int, inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Conv:
    return _layers.new_conv(size, inputs, outputs, _INIT, rngs, use_bias=False)


def _new_norm(features: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return _layers.new_norm(features, nnx.initializers.ones_init(), rngs)


def _new_block(inputs: int, outputs: int, rngs: nnx.Rngs) -> _layers.Layers:
    layers: _layers.Layers = {
        f"layer{index}": {"norm": _new_norm(fan_in, rngs), "conv": _new_conv(3, fan_in, outputs, rngs)}
        for index, fan_in in ((1, inputs), (2, outputs))
    }
    if inputs != outputs:
        layers["shortcut"] = {"conv": _new_conv(1, inputs, outputs, rngs)}
    return layers


def _block(params: Params, statistics: PyTree, x: jax.Array, *, strides: int, train: bool) -> tuple[jax.Array, PyTree]:
    """Return x, or the shortcut's convolution of it once it is activated, plus two activated convolutions."""
    new = {}
    y, norm = _layers.batch_norm(params["layer1"]["norm"], statistics["layer1"]["norm"], x, train=train)
    y, new["layer1"] = jax.nn.relu(y), {"norm": norm}
    shortcut = _layers.conv(params["shortcut"]["conv"], y, strides=strides) if "shortcut" in params else x
    y = _layers.conv(params["layer1"]["conv"], y, strides=strides)
    y, norm = _layers.batch_norm(params["layer2"]["norm"], statistics["layer2"]["norm"], y, train=train)
    y, new["layer2"] = jax.nn.relu(y), {"norm": norm}
    return _layers.conv(params["layer2"]["conv"], y) + shortcut, new
