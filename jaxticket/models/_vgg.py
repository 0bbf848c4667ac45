"""VGG for small images, with batch norm."""

import jax
import jax.numpy as jnp

from jaxticket._checks import check_images, check_sizes
from jaxticket.models import _layers
from jaxticket.models._model import Model
from jaxticket.typing import Key, Params, PyTree

_STAGES = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))  # channels in multiples of `width`; pools lie between


def vgg_16_bn(*, classes: int = 10, width: int = 64, channels: int = 3) -> Model:
    """Build VGG-16 with batch norm for CIFAR: 13 convolutions of `width` to 8 · `width` channels and one linear layer.

    It follows Simonyan & Zisserman (2015), in the CIFAR variant of open_lth (Frankle et al., 2020): four max-pools,
    then the mean over pixels. Kernels are Kaiming-normal, norm scales uniform in [0, 1). Convolutions do not have a
    bias, which batch norm would cancel, as in Liu et al., "Rethinking the Value of Network Pruning" (2019). Images are
    at least 16 × 16. It has 14,724,042 parameters with the defaults.

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
      >>> params, state = jax.eval_shape(vgg_16_bn(width=4).init, jax.random.key(0))
      >>> params["layer13"]["conv"]["kernel"].shape, state["layer13"]["norm"]["var"].shape
      ((3, 3, 32, 32), (32,))
    """
    check_sizes(classes=classes, width=width, channels=channels)

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs, inputs = _layers.keys(key), channels
        layers: _layers.Layers = {}
        for index, multiple in enumerate((multiple for stage in _STAGES for multiple in stage), start=1):
            layers[f"layer{index}"] = _layers.new_conv_norm(3, inputs, multiple * width, rngs)
            inputs = multiple * width
        layers["output"] = _layers.new_dense(inputs, classes, _layers.kaiming_normal, rngs)
        return _layers.pure(layers)

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
        del key  # no dropout
        check_images(x, params["layer1"]["conv"]["kernel"], least=16)
        index, new = 0, {}
        for number, stage in enumerate(_STAGES):
            x = _layers.max_pool(x) if number else x
            for _ in stage:
                name = f"layer{(index := index + 1)}"
                x, new[name] = _layers.conv_norm(params[name], state[name], x, train=train)
                x = jax.nn.relu(x)
        return _layers.dense(params["output"], jnp.mean(x, axis=(1, 2))), new

    return Model(init, apply)
