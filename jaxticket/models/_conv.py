"""The convolutional networks of the lottery-ticket paper, for CIFAR-10."""

import math
from itertools import pairwise

import jax

from jaxticket._checks import check_images, check_sizes
from jaxticket.errors import InputError
from jaxticket.models import _layers
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model
from jaxticket.typing import Key, Params, PyTree

_HIDDEN = ("hidden1", "hidden2", "output")


def conv_2(*, classes: int = 10, shape: tuple[int, int, int] = (32, 32, 3), width: int = 64) -> Model:
    """Build Conv-2: two 3 × 3 convolutions, a 2 × 2 max-pool, and two hidden layers of 4 · `width` units.

    Kernels are Glorot-normal, biases zero, activations ReLU, as in Frankle & Carbin, "The Lottery Ticket Hypothesis"
    (2019). It has 4,301,642 parameters with the defaults.

    Args:
      classes: the number of logits.
      shape: the shape of an image: (height, width, channels).
      width: the number of channels of both convolutions.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, or images that pooling leaves without a pixel.

    Examples:
      >>> import jax
      >>> model = conv_2(shape=(8, 8, 1))
      >>> params, state = jax.eval_shape(model.init, jax.random.key(0))
      >>> params["conv1"]["kernel"].shape, params["hidden1"]["kernel"].shape
      ((3, 3, 1, 64), (1024, 256))
    """
    return _conv_net((1, 1), classes, shape, width)


def conv_4(*, classes: int = 10, shape: tuple[int, int, int] = (32, 32, 3), width: int = 64) -> Model:
    """Build Conv-4: `conv_2` with two more convolutions, of 2 · `width` channels, and a pool. 2,425,930 parameters.

    Args:
      classes: the number of logits.
      shape: the shape of an image: (height, width, channels).
      width: the number of channels of the first two convolutions.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, or images that pooling leaves without a pixel.
    """
    return _conv_net((1, 1, 2, 2), classes, shape, width)


def conv_6(*, classes: int = 10, shape: tuple[int, int, int] = (32, 32, 3), width: int = 64) -> Model:
    """Build Conv-6: `conv_4` with two more convolutions of 4 · `width` channels and another pool. 2,262,602 parameters.

    The table of Frankle & Carbin (2019) says 1.7 million, 1.1 of them in convolutions. Its convolutions do hold 1.1
    million. With the three pools that the paper describes, the first hidden layer reads 4 × 4 × 256 values, which makes
    2.3 million in all.

    Args:
      classes: the number of logits.
      shape: the shape of an image: (height, width, channels).
      width: the number of channels of the first two convolutions.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, or images that pooling leaves without a pixel.
    """
    return _conv_net((1, 1, 2, 2, 4, 4), classes, shape, width)


def _conv_net(multiples: tuple[int, ...], classes: int, shape: tuple[int, int, int], width: int) -> Model:
    if len(shape) != 3:
        raise InputError(f"shape={shape} must be (height, width, channels)")
    rows, columns, channels = shape
    check_sizes(classes=classes, height=rows, width=columns, channels=channels)
    check_sizes(width=width)
    shrunk = 2 ** (len(multiples) // 2)
    if min(rows, columns) < shrunk:
        raise InputError(f"shape={shape}: images must be at least {shrunk} × {shrunk}, or pooling leaves no pixel")
    widths = tuple(width * multiple for multiple in multiples)
    flat = (rows // shrunk) * (columns // shrunk) * widths[-1]
    convs = tuple(f"conv{index}" for index in range(1, len(widths) + 1))

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs, glorot = _layers.keys(key), nnx.initializers.glorot_normal()
        layers: _layers.Layers = {}
        for name, (inputs, outputs) in zip(convs, pairwise((channels, *widths)), strict=True):
            layers[name] = _layers.new_conv(3, inputs, outputs, glorot, rngs)
        for name, (inputs, outputs) in zip(_HIDDEN, pairwise((flat, 4 * width, 4 * width, classes)), strict=True):
            layers[name] = _layers.new_dense(inputs, outputs, glorot, rngs)
        return _layers.pure(layers)

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
        del train, key  # no dropout, no batch statistics
        check_images(x, params["conv1"]["kernel"])
        for index, name in enumerate(convs, start=1):
            x = jax.nn.relu(_layers.conv(params[name], x))
            x = _layers.max_pool(x) if index % 2 == 0 else x
        features = params["hidden1"]["kernel"].shape[0]
        if math.prod(x.shape[1:]) != features:
            raise InputError(f"images are pooled to {x.shape[1:]}, but hidden1 reads {features} values; shape={shape}")
        x = x.reshape(x.shape[0], features)
        for name in _HIDDEN:
            x = _layers.dense(params[name], x)
            x = x if name == "output" else jax.nn.relu(x)
        return x, state

    return Model(init, apply)
