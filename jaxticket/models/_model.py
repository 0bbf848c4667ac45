"""The interface of every model of this package: two pure functions, and the steps of those that have blocks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxticket.models._layers import in_order
from jaxticket.typing import Key, Params, PyTree


class Stages(NamedTuple):
    """A network as its steps: an embedding, blocks that all compute the same function, and a head.

    The parameters of blocks are `params["blocks"]["block1"]`, `["block2"]` and so on. So a network can run, and be
    pruned, with one block in memory.

    Attributes:
      embed: embed(params, x) -> stream: what the first block reads, a pytree with leaves (batch, ...). It reads none of
        the blocks' parameters, which may be absent.
      block: block(params of the block, stream) -> stream.
      head: head(params, stream) -> outputs, without the blocks' parameters too.
      look: look(params of the block, stream) -> (weights, keys) of the block's attention, in encoders: (batch, heads,
        queries, keys) and (batch, time, heads, channels); None in other models. Beside `block` in a compiled program it
        costs nothing.

    Examples:
      >>> network = Stages(
      ...     embed=lambda params, x: params["scale"] * x,
      ...     block=lambda params, x: x + params["step"],
      ...     head=lambda params, x: x / params["scale"],
      ... )
      >>> params = {"scale": 2.0, "blocks": {"block1": {"step": 3.0}, "block2": {"step": 5.0}}}
      >>> of_stages(lambda key: (params, None), network).apply(params, None, 1.0, train=False, key=None)
      (5.0, None)
    """

    embed: Callable[[Params, Any], PyTree]
    block: Callable[[Params, PyTree], PyTree]
    head: Callable[[Params, PyTree], Any]
    look: Callable[[Params, PyTree], tuple[Any, Any]] | None = None


class Model(NamedTuple):
    """A network as two pure functions on nested dicts, whose leaves are named .../kernel, bias, scale or embedding.

    Attributes:
      init: init(key) -> (params, state): fresh float32 parameters and batch statistics (None for models without).
      apply: apply(params, state, x, *, train, key) -> (logits, state): x is (batch, ...), logits are (batch, classes),
        or (batch, time, vocabulary) of tokens (batch, time). Statistics are used as they are, or by the batch if
        `train`. Widths are read from the kernels, so parameters from which channels were sliced away run unchanged.
      stages: the steps of `apply` for transformers, None for other models.
    """

    init: Callable[..., tuple[Params, PyTree]]
    apply: Callable[..., tuple[Any, PyTree]]
    stages: Stages | None = None


def of_stages(init: Callable[[Key], tuple[Params, PyTree]], stages: Stages) -> Model:
    """Return the model that runs as many blocks as its parameters hold. It has no dropout and no batch statistics."""

    def apply(params: Params, state: PyTree, x: jax.Array, *, train: bool, key: Key | None) -> tuple[Any, PyTree]:
        del train, key
        stream = stages.embed(params, x)
        for name in in_order(params["blocks"]):
            stream = stages.block(params["blocks"][name], stream)
        return stages.head(params, stream), state

    return Model(init, apply, stages)
