"""The collectives of a compiled program, and the bytes that they move."""

import re
from typing import Any

import numpy as np

from jaxticket.errors import JaxticketError

_ITEM_BYTES = {"pred": 1, "bf16": 2}
_COLLECTIVES = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
# A result type (or tuple of them), then the collective: `%x = f32[8,4]{1,0} all-gather(`, also the async `-start`.
_COLLECTIVE = re.compile(rf"= (?P<type>\(.*?\)|\S+) (?P<name>{_COLLECTIVES})(-start)?\(")
_ARRAY = re.compile(r"(?P<dtype>[a-z]+\d*\w*)\[(?P<shape>[\d,]*)\]")


def assert_no_gather(compiled: Any, *, max_bytes: int = 65536) -> None:
    """Raise JaxticketError if a collective of a compiled program moves more than `max_bytes`.

    Selection exchanges counts: a few bytes a leaf and pass, whatever the leaves' size. GSPMD may spell those as tiny
    all-gathers, so bytes are checked, not names.

    Args:
      compiled: `jax.jit(f).lower(...).compile()`, or the text of its HLO.
      max_bytes: the most that one collective may produce on a device.

    Raises:
      JaxticketError: a collective that moves more.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> assert_no_gather(jax.jit(jnp.sum).lower(jnp.ones(8)).compile())
    """
    large = [(name, size) for name, size in collectives(compiled) if size > max_bytes]
    if large:
        raise JaxticketError(
            f"collectives of more than max_bytes={max_bytes}: {large}; a leaf is being gathered. Check that masks and "
            "states are laid out like their parameters (state_shardings)."
        )


def collectives(compiled: Any) -> list[tuple[str, int]]:
    """Return the collectives of a compiled program as (name, bytes of their result on a device), in program order.

    Examples:
      >>> collectives("%x = (s32[], s32[4]{0}) all-reduce(%a, %b), to_apply=%sum")
      [('all-reduce', 20)]
    """
    text = compiled if isinstance(compiled, str) else compiled.as_text()
    return [(m["name"], _bytes(m["type"])) for m in _COLLECTIVE.finditer(text)]


def _bytes(hlo_type: str) -> int:
    total = 0
    for array in _ARRAY.finditer(hlo_type):
        dtype = array["dtype"]
        item = _ITEM_BYTES.get(dtype) or max(int(re.sub(r"\D.*", "", re.sub(r"^[a-z]+", "", dtype)) or 8) // 8, 1)
        total += item * int(np.prod([int(n) for n in array["shape"].split(",") if n], dtype=np.int64))
    return total
