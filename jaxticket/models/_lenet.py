"""Fully connected networks for small images."""

from itertools import pairwise

import jax

from jaxticket._checks import check_sizes
from jaxticket.models import _layers
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model
from jaxticket.typing import Key, Params, PyTree


def lenet_300_100(*, features: int = 784, classes: int = 10, width: int = 100) -> Model:
    """Build LeNet-300-100: hidden layers of 3 · `width` and `width` ReLU units.

    Kernels are Glorot-normal, biases zero, as in Frankle & Carbin, "The Lottery Ticket Hypothesis" (2019). Inputs of
    any shape (batch, ...) with `features` values an example are flattened. With the defaults the three kernels hold
    266,200 weights.

    Args:
      features: the number of inputs.
      classes: the number of logits.
      width: the number of units of the second hidden layer.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1.

    Examples:
      >>> import jax
      >>> model = lenet_300_100(features=64)
      >>> params, state = model.init(jax.random.key(0))
      >>> jax.tree.map(lambda leaf: leaf.shape, params)["hidden1"]
      {'bias': (300,), 'kernel': (64, 300)}
      >>> logits, state = model.apply(params, state, jax.numpy.ones((5, 8, 8)), train=False, key=None)
      >>> logits.shape
      (5, 10)
    """
    check_sizes(features=features, classes=classes, width=width)
    names = ("hidden1", "hidden2", "output")

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs, glorot = _layers.keys(key), nnx.initializers.glorot_normal()
        widths = zip(names, pairwise((features, 3 * width, width, classes)), strict=True)
        return _layers.pure({name: _layers.new_dense(*width, glorot, rngs) for name, width in widths})

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
        del train, key  # no dropout, no batch statistics
        x = x.reshape(x.shape[0], -1)
        for name in names:
            x = _layers.dense(params[name], x)
            x = x if name == "output" else jax.nn.relu(x)
        return x, state

    return Model(init, apply)
