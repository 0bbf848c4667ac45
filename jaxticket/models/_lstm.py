"""Recurrent language models."""

import functools

import jax
import jax.numpy as jnp

from jaxticket._checks import check_sizes, check_tokens
from jaxticket.errors import InputError
from jaxticket.models import _layers
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model
from jaxticket.typing import Key, Params, PyTree

_GATES = 4  # input, forget, candidate, output


def lstm(*, vocabulary: int, width: int = 650, layers: int = 2, dropout: float = 0.5) -> Model:
    """Build a stacked LSTM language model: tokens of shape (batch, time) to logits (batch, time, vocabulary).

    It is the "medium" model of Zaremba et al., "Recurrent Neural Network Regularization" (2014), which Zhu & Gupta, "To
    Prune, or Not to Prune" (2017) prune. All parameters are uniform in ±0.05. Dropout is between layers but not through
    time (when training; it needs `key`). Each sequence starts from a zero state. Kernels are (inputs, 4, width), one
    slice a gate: input, forget, candidate, output; the units are read from them. It has 19,775,200 parameters with
    10,000 tokens. The model raises InputError for tokens that are not integers, and for training with dropout without a
    key.

    Args:
      vocabulary: the number of tokens.
      width: the number of units of a layer.
      layers: the number of layers.
      dropout: the fraction of hidden states that are dropped in training.

    Returns:
      A Model.

    Raises:
      InputError: sizes below 1, or dropout outside [0, 1).

    Examples:
      >>> import functools, jax
      >>> model = lstm(vocabulary=50, width=8)
      >>> params, state = jax.eval_shape(model.init, jax.random.key(0))
      >>> params["layer1"]["recurrent"]["kernel"].shape
      (8, 4, 8)
      >>> run = functools.partial(model.apply, train=False, key=None)
      >>> jax.eval_shape(run, params, state, jax.numpy.ones((3, 5), int))[0].shape
      (3, 5, 50)
    """
    check_sizes(vocabulary=vocabulary, width=width, layers=layers)
    if not 0 <= dropout < 1:
        raise InputError(f"dropout={dropout} must lie in [0, 1)")

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs = _layers.keys(key)
        new = functools.partial(nnx.LinearGeneral, width, kernel_init=_uniform, bias_init=_uniform, rngs=rngs)
        gates = (_GATES, width)
        modules: _layers.Layers = {"token": nnx.Embed(vocabulary, width, embedding_init=_uniform, rngs=rngs)}
        for index in range(1, layers + 1):
            modules[f"layer{index}"] = {"input": new(gates, use_bias=False), "recurrent": new(gates)}
        modules["output"] = new(vocabulary)
        return _layers.pure(modules)

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
        check_tokens(x)
        rate = dropout if train else 0.0
        if rate and key is None:
            raise InputError("key=None: training with dropout draws from a key; pass one, or lstm(dropout=0)")

        def drop(x: jax.Array, site: int) -> jax.Array:
            if key is None:
                return x
            return nnx.Dropout(rate)(x, rngs=jax.random.fold_in(key, site))

        x = drop(_layers.bind(params["token"], nnx.Embed, *params["token"]["embedding"].shape)(x), 0)
        for index in range(1, layers + 1):
            x = drop(_layer(params[f"layer{index}"], x), index)
        return _layers.dense(params["output"], x), state

    return Model(init, apply)


def _layer(params: Params, x: jax.Array) -> jax.Array:
    """Return the hidden states (batch, time, width) from a zero state on. The inputs' part of the gates is computed at
    once.
    """
    inputs, gates, width = params["input"]["kernel"].shape
    from_inputs = _layers.bind(params["input"], nnx.LinearGeneral, inputs, (gates, width), use_bias=False)(x)

    def step(
        carry: tuple[jax.Array, jax.Array], from_input: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        cell, hidden = carry
        recurrent = _layers.bind(params["recurrent"], nnx.LinearGeneral, width, (gates, width))
        opened, kept, candidate, shown = jnp.moveaxis(from_input + recurrent(hidden), -2, 0)
        cell = jax.nn.sigmoid(kept) * cell + jax.nn.sigmoid(opened) * jnp.tanh(candidate)
        hidden = jax.nn.sigmoid(shown) * jnp.tanh(cell)
        return (cell, hidden), hidden

    zeros = jnp.zeros((x.shape[0], width), from_inputs.dtype)
    _, hidden = jax.lax.scan(step, (zeros, zeros), jnp.moveaxis(from_inputs, 1, 0))
    return jnp.moveaxis(hidden, 0, 1)


def _uniform(key: Key, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, minval=-0.05, maxval=0.05)
