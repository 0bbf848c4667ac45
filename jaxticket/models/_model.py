"""The interface of every model of this package: two pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxticket.typing import Params, PyTree


class Model(NamedTuple):
    """A network as two pure functions on nested dicts, whose leaves are named .../kernel, bias, scale or embedding.

    Attributes:
      init: init(key) -> (params, state): fresh float32 parameters and batch statistics (None for models without).
      apply: apply(params, state, x, *, train, key) -> (logits, state): x is (batch, ...), logits are (batch, classes),
        or (batch, time, vocabulary) of tokens (batch, time). Statistics are used as they are, or by the batch if
        `train`. Widths are read from the kernels, so parameters from which channels were sliced away run unchanged.
    """

    init: Callable[..., tuple[Params, PyTree]]
    apply: Callable[..., tuple[Any, PyTree]]
