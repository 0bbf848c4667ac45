"""Fully connected networks for small images."""

from itertools import pairwise

import jax

from jaxticket.errors import InputError, MissingExtraError
from jaxticket.models._model import Model
from jaxticket.typing import Key, Params, PyTree

try:
    from flax import nnx
except ImportError as error:
    raise MissingExtraError("flax", "models") from error


def lenet_300_100(*, features: int = 784, classes: int = 10) -> Model:
    """LeNet-300-100: `features` inputs, hidden layers of 300 and 100 ReLU units, `classes` logits.

    Kernels are Glorot-normal, biases zero, as in Frankle & Carbin, "The Lottery Ticket Hypothesis" (2019). Inputs of
    any shape (batch, ...) with `features` values an example are flattened. With the defaults the three kernels hold
    266,200 weights. Raises InputError unless both sizes are positive.

    >>> import jax
    >>> model = lenet_300_100(features=64)
    >>> params, state = model.init(jax.random.key(0))
    >>> jax.tree.map(lambda leaf: leaf.shape, params)["hidden1"]
    {'bias': (300,), 'kernel': (64, 300)}
    >>> logits, state = model.apply(params, state, jax.numpy.ones((5, 8, 8)), train=False, key=None)
    >>> logits.shape
    (5, 10)
    """
    for name, value in (("features", features), ("classes", classes)):
        if value < 1:
            raise InputError(f"{name}={value} must be at least 1")
    names = ("hidden1", "hidden2", "output")

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs = nnx.Rngs(params=key)
        widths = pairwise((features, 300, 100, classes))
        layers = {name: _linear(*width, rngs=rngs) for name, width in zip(names, widths, strict=True)}
        return nnx.to_pure_dict(nnx.state(nnx.Dict(layers), nnx.Param)), None

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
        del train, key  # no dropout, no batch statistics
        x = x.reshape(x.shape[0], -1)
        for name in names:
            x = _bind(params[name])(x)
            x = x if name == "output" else jax.nn.relu(x)
        return x, state

    return Model(init, apply)


def _linear(inputs: int, outputs: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, kernel_init=nnx.initializers.glorot_normal(), rngs=rngs)


def _bind(params: Params) -> nnx.Linear:
    """A layer around given arrays, as wide as they are: no weight is drawn or copied."""
    layer = nnx.eval_shape(lambda: _linear(*params["kernel"].shape, rngs=nnx.Rngs(0)))
    nnx.update(layer, params)
    return layer
