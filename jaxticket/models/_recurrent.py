"""Recurrent classifiers of token sequences, whose layers may also read layers before the last one."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from jaxticket._checks import check_count, check_tokens
from jaxticket.errors import InputError
from jaxticket.models import _layers
from jaxticket.models._layers import nnx
from jaxticket.models._model import Model
from jaxticket.typing import Key, Params, PyTree

RecurrentCell = Literal["tanh", "relu", "gru", "lstm"]
"""The kinds of recurrent layers."""

Carry = tuple[jax.Array, ...]  # what a layer passes on in time, its hidden state last


class _Cell(NamedTuple):
    """A kind of recurrent layer."""

    gates: int
    carries: int
    step: Callable[[Carry, jax.Array, jax.Array], Carry]  # carry, gates of the input, gates of the hidden state


def recurrent(
    *,
    cell: RecurrentCell,
    widths: Sequence[int] = (50, 50, 50),
    classes: int = 2,
    vocabulary: int = 128,
    skips: Sequence[tuple[int, int]] = (),
) -> Model:
    """Build stacked recurrent layers that classify sequences: tokens (batch, time) to logits (batch, classes).

    It is the network of Darji, "Investigating Sparsity in Recurrent Neural Networks" (2021): an embedding as wide as
    the first layer, recurrent layers, and a linear layer on what the last one has computed at a sequence's last token.
    Token 0 is padding, after the end. (The author classifies the last padded step, so that an answer depends on the
    longest sequence of its batch.)

    A layer has the leaves input/kernel (inputs, gates, width), recurrent/kernel (width, gates, width), and a bias of
    each. The gates are reset, update, new (GRU) and input, forget, candidate, output (LSTM). A layer draws all leaves
    uniformly in ±1/√width. A mask of shape (inputs, 1, width) masks all gates alike. A skip is a recurrent layer of its
    own, skip1_3, from the outputs of layer 1; its outputs are added to those of layer 3.

    Args:
      cell: "tanh" and "relu" are plain recurrences, "gru" and "lstm" have gates.
      widths: the units of each layer.
      classes: the number of classes.
      vocabulary: the number of tokens, 0 among them.
      skips: pairs (source, target) of layers, counted from 1; the target comes two layers later, or more.

    Returns:
      A Model. It raises InputError for tokens that are not integers.

    Raises:
      InputError: an unknown cell, sizes below 1, no layer, or a skip that does not lead over a layer.

    Examples:
      >>> import functools, jax
      >>> model = recurrent(cell="gru", widths=(8, 4, 6), skips=[(1, 3)])
      >>> params, state = jax.eval_shape(model.init, jax.random.key(0))
      >>> params["skip1_3"]["input"]["kernel"].shape
      (8, 3, 6)
      >>> run = functools.partial(model.apply, train=False, key=None)
      >>> jax.eval_shape(run, params, state, jax.numpy.ones((3, 5), int))[0].shape
      (3, 2)
    """
    if cell not in get_args(RecurrentCell):
        raise InputError(f"cell={cell!r} is not known; choose one of {', '.join(get_args(RecurrentCell))}")
    check_count(1, classes=classes, vocabulary=vocabulary, **{f"widths[{i}]": n for i, n in enumerate(widths)})
    skips = sorted({(int(source), int(target)) for source, target in skips})
    if not widths:
        raise InputError("widths is empty; give the units of one layer or more")
    for source, target in skips:
        if not 1 <= source <= target - 2 <= len(widths) - 2:
            raise InputError(
                f"skips: ({source}, {target}) does not lead over a layer of 1 to {len(widths)}; "
                "give pairs (source, target) with source + 2 <= target"
            )
    kind = _CELLS[cell]

    def init(key: Key) -> tuple[Params, PyTree]:
        rngs = _layers.keys(key)

        def layer(inputs: int, width: int) -> _layers.Layers:
            draw = functools.partial(_uniform, width)
            new = functools.partial(nnx.LinearGeneral, kernel_init=draw, bias_init=draw, rngs=rngs)
            shape = (kind.gates, width)
            return {"input": new(inputs, shape), "recurrent": new(width, shape)}

        normal = nnx.initializers.normal(1.0)
        modules: _layers.Layers = {"token": nnx.Embed(vocabulary, widths[0], embedding_init=normal, rngs=rngs)}
        for index, (inputs, width) in enumerate(zip((widths[0], *widths), widths), start=1):
            modules[f"layer{index}"] = layer(inputs, width)
        for source, target in skips:
            modules[_skip(source, target)] = layer(widths[source - 1], widths[target - 1])
        draw = functools.partial(_uniform, widths[-1])
        modules["output"] = nnx.Linear(widths[-1], classes, kernel_init=draw, bias_init=draw, rngs=rngs)
        return _layers.pure(modules)

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[jax.Array, PyTree]:
        del train, key
        check_tokens(x)
        embedding = params["token"]["embedding"]
        outputs = [_layers.bind(params["token"], nnx.Embed, *embedding.shape)(x)]
        for index in range(1, len(widths) + 1):
            into = [(params[f"layer{index}"], outputs[index - 1])]
            into += [(params[_skip(s, t)], outputs[s]) for s, t in skips if t == index]
            outputs.append(_sum_of_layers(kind, into))
        last = jnp.max(jnp.where(x != 0, jnp.arange(x.shape[1])[None], 0), axis=1)
        hidden = jnp.take_along_axis(outputs[-1], last[:, None, None], axis=1)[:, 0]
        return _layers.dense(params["output"], hidden), state

    return Model(init, apply)


def _sum_of_layers(kind: _Cell, into: Sequence[tuple[Params, jax.Array]]) -> jax.Array:
    """Return the sum of hidden states (batch, time, width) of layers side by side, each from a zero state on."""

    def from_input(params: Params, x: jax.Array) -> jax.Array:
        inputs, *gates = params["kernel"].shape
        return _layers.bind(params, nnx.LinearGeneral, inputs, tuple(gates))(x)

    inputs = jnp.stack([from_input(params["input"], x) for params, x in into])  # (layers, batch, time, gates, width)
    hidden_to_hidden = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params["recurrent"] for params, _ in into))
    bias = hidden_to_hidden["bias"][:, None]

    def step(carry: Carry, from_input: jax.Array) -> tuple[Carry, jax.Array]:
        from_hidden = jnp.einsum("lbi,ligo->lbgo", carry[-1], hidden_to_hidden["kernel"]) + bias
        carry = kind.step(carry, jnp.moveaxis(from_input, -2, 0), jnp.moveaxis(from_hidden, -2, 0))
        return carry, carry[-1].sum(axis=0)

    layers, batch, _, _, width = inputs.shape
    zeros = (jnp.zeros((layers, batch, width), inputs.dtype),) * kind.carries
    _, hidden = jax.lax.scan(step, zeros, jnp.moveaxis(inputs, 2, 0))
    return jnp.moveaxis(hidden, 0, 1)


def _plain(activation: Callable[[jax.Array], jax.Array]) -> _Cell:
    return _Cell(1, 1, lambda carry, x, h: (activation(x[0] + h[0]),))


def _gru_step(carry: Carry, x: jax.Array, h: jax.Array) -> Carry:
    reset, update = jax.nn.sigmoid(x[:2] + h[:2])
    new = jnp.tanh(x[2] + reset * h[2])
    return (new + update * (carry[0] - new),)


def _lstm_step(carry: Carry, x: jax.Array, h: jax.Array) -> Carry:
    opened, kept, candidate, shown = x + h
    memory = jax.nn.sigmoid(kept) * carry[0] + jax.nn.sigmoid(opened) * jnp.tanh(candidate)
    return memory, jax.nn.sigmoid(shown) * jnp.tanh(memory)


_CELLS = {
    "tanh": _plain(jnp.tanh),
    "relu": _plain(jax.nn.relu),
    "gru": _Cell(3, 1, _gru_step),
    "lstm": _Cell(4, 2, _lstm_step),
}


def _skip(source: int, target: int) -> str:
    return f"skip{source}_{target}"


def _uniform(width: int, key: Key, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, minval=-(width**-0.5), maxval=width**-0.5)
