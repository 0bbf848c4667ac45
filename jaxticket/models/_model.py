"""What every model of this package is: two pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxticket.typing import Params, PyTree


class Model(NamedTuple):
    """A network as two pure functions on plain nested dicts, whose leaves are named .../kernel and .../bias.

    init(key) -> (params, state): fresh float32 parameters and batch statistics (None for models without).
    apply(params, state, x, *, train, key) -> (logits, state): x is (batch, ...), logits are (batch, classes).
    Widths are read from the kernels, so parameters from which channels were sliced away run unchanged.
    """

    init: Callable[..., tuple[Params, PyTree]]
    apply: Callable[..., tuple[Any, PyTree]]
