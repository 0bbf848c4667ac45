"""The interface of every model of this package: two pure functions, and the steps of those that have blocks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxticket import _tree
from jaxticket.typing import Key, Params, PyTree, Stages


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
        for name in _tree.in_order(params["blocks"]):
            stream = stages.block(params["blocks"][name], stream)
        return stages.head(params, stream), state

    return Model(init, apply, stages)
