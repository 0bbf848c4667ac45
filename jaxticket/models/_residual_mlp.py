"""A deep fully connected network of residual blocks, for small images."""

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._checks import check_sizes
from jaxticket.models import _layers
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model
from jaxticket.typing import Key, Params, PyTree


def residual_mlp(*, blocks: int = 16, width: int = 64, features: int = 784, classes: int = 10) -> Model:
    """Build a residual MLP: x + output(relu(hidden(norm(x)))) `blocks` times, between an input and an output layer.

    The norm subtracts the mean and divides by the standard deviation of each example's stream, and has no parameters.
    Kernels are Glorot-normal, biases zero. Inputs of any shape (batch, ...) with `features` values an example are
    flattened. The number of blocks and the hidden widths are read from the parameters.

    Args:
      blocks: the number of residual blocks.
      width: the number of units of the stream, and of each block's hidden layer.
      features: the number of inputs.
      classes: the number of logits.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1.

    Examples:
      >>> import jax
      >>> model = residual_mlp(blocks=2, width=8, features=16)
      >>> params, state = model.init(jax.random.key(0))
      >>> sorted(params), sorted(params["blocks"])
      (['blocks', 'input', 'output'], ['block1', 'block2'])
      >>> model.apply(params, state, jax.numpy.ones((5, 4, 4)), train=False, key=None)[0].shape
      (5, 10)
    """
    check_sizes(blocks=blocks, width=width, features=features, classes=classes)

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs, glorot = _layers.keys(key), nnx.initializers.glorot_normal()
        dense = lambda inputs, outputs: _layers.new_dense(inputs, outputs, glorot, rngs)
        layers: _layers.Layers = {"input": dense(features, width), "blocks": {}}
        for number in range(1, blocks + 1):
            layers["blocks"][f"block{number}"] = {"hidden": dense(width, width), "output": dense(width, width)}
        return _layers.pure({**layers, "output": dense(width, classes)})

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
        del train, key  # no dropout, no batch statistics
        x = _layers.dense(params["input"], x.reshape(x.shape[0], -1))
        for name in _tree.in_order(params["blocks"]):
            block = params["blocks"][name]
            x = x + _layers.dense(block["output"], jax.nn.relu(_layers.dense(block["hidden"], _normalise(x))))
        return _layers.dense(params["output"], x), state

    return Model(init, apply)


def _normalise(x: jax.Array) -> jax.Array:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + 1e-5)
