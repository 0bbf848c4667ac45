"""Masks and sparse optimizer states on a mesh: laid out like their parameters, refreshed without gathering them."""

import re
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from jaxticket import _tree
from jaxticket.errors import JaxticketError, StructureError
from jaxticket.typing import Params, PyTree

_ITEM_BYTES = {"pred": 1, "bf16": 2}
_COLLECTIVES = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
# A result type (or tuple of them), then the collective: `%x = f32[8,4]{1,0} all-gather(`, also the async `-start`.
_COLLECTIVE = re.compile(rf"= (?P<type>\(.*?\)|\S+) (?P<name>{_COLLECTIVES})(-start)?\(")
_ARRAY = re.compile(r"(?P<dtype>[a-z]+\d*\w*)\[(?P<shape>[\d,]*)\]")


def state_shardings(tx: optax.GradientTransformation, params: Params, shardings: PyTree) -> PyTree:
    """Shardings of `tx.init(params)`: masks and moments like their parameters, everything else replicated.

    For `out_shardings=` of jit on an Auto mesh, where even Adam's moments come out on one device otherwise.

    Args:
      tx: any optax transform, with or without `sparsify`. params: arrays or ShapeDtypeStructs; nothing is computed.
      shardings: NamedShardings with the structure of `params`.

    Returns:
      A pytree of NamedShardings with the structure of the state. A leaf that has its parameter's path and shape is laid
      out like it; along axes where it has size 1 (channel masks, factored moments) it is replicated.

    Raises StructureError if `shardings` does not match `params`.

    >>> import jax, jax.numpy as jnp, optax
    >>> from jax.sharding import NamedSharding, PartitionSpec
    >>> mesh = jax.make_mesh((1,), ("x",))
    >>> by_row = NamedSharding(mesh, PartitionSpec("x"))
    >>> tuple(state_shardings(optax.adam(0.1), {"w": jnp.ones((2, 3))}, {"w": by_row})[0].mu["w"].spec)
    ('x', None)
    """
    _tree.check_structure("shardings", shardings, "params", params)
    layouts = {
        _tail(path): (p.shape, s)
        for (path, p), s in zip(
            jax.tree_util.tree_flatten_with_path(params)[0], jax.tree.leaves(shardings), strict=True
        )
    }
    if not layouts:
        raise StructureError("params holds no arrays.")
    mesh = next(iter(layouts.values()))[1].mesh
    replicated = NamedSharding(mesh, PartitionSpec())

    def layout(path: tuple[Any, ...], leaf: Any) -> Sharding:
        names = _tail(path)
        # The longest parameter path that ends the state's path: states nest the parameter tree whole.
        for start in range(len(names) + 1):
            if names[start:] in layouts:
                return _fitted(leaf.shape, *layouts[names[start:]])
        return replicated

    return jax.tree_util.tree_map_with_path(layout, jax.eval_shape(tx.init, params))


def assert_no_gather(compiled: Any, *, max_bytes: int = 65536) -> None:
    """Raises JaxticketError if a collective of a compiled program moves more than `max_bytes`.

    Selection exchanges counts: a few bytes a leaf and pass, whatever the leaves' size. GSPMD may spell those as tiny
    all-gathers, so bytes are checked, not names.

    Args:
      compiled: `jax.jit(f).lower(...).compile()`, or the text of its HLO.
      max_bytes: the most that one collective may produce on a device.

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
    """The collectives of a compiled program as (name, bytes of their result on a device), in program order.

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


def _tail(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(str(key) for key in path)


def _fitted(shape: tuple[int, ...], of_param: tuple[int, ...], sharding: NamedSharding) -> NamedSharding:
    if len(shape) != len(of_param):
        return NamedSharding(sharding.mesh, PartitionSpec())
    spec = tuple(sharding.spec) + (None,) * (len(shape) - len(sharding.spec))
    kept = [axis if n == full else None for axis, n, full in zip(spec, shape, of_param, strict=True)]
    return NamedSharding(sharding.mesh, PartitionSpec(*kept))
