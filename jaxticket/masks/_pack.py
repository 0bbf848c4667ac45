"""Masks at one bit a weight, for checkpoints and for many masks at once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._check_trees import check_mask
from jaxticket.typing import Mask, PyTree


@functools.partial(jax.tree_util.register_dataclass, data_fields=("bits",), meta_fields=("last",))
@dataclasses.dataclass(frozen=True)
class PackedMask:
    """One leaf of a mask, eight entries a byte along the last axis, so that leading axes keep their sharding.

    Attributes:
      bits: uint8, the mask's shape with its last axis n shortened to ceil(n / 8); (1,) for a mask without axes.
      last: n, static; None for a mask without axes.

    Examples:
      >>> import jax.numpy as jnp
      >>> pack(jnp.array([[True, False, True]]))
      PackedMask(bits=Array([[160]], dtype=uint8), last=3)
    """

    bits: jax.Array
    last: int | None


def pack(mask: Mask) -> PyTree:
    """Pack a mask at one bit a weight, plus padding: a pytree with a PackedMask for each leaf (None stays None).

    Only the last axis is touched: nothing is flattened or gathered. `unpack` is the inverse.

    Examples:
      >>> import jax.numpy as jnp
      >>> pack({"kernel": jnp.ones((4, 20), bool), "bias": None})["kernel"].bits.shape
      (4, 3)
    """

    check_mask("mask", mask)

    def pack_leaf(m: jax.Array) -> PackedMask:
        last = m.shape[-1] if m.ndim else None
        return PackedMask(jnp.packbits(m if m.ndim else m[None], axis=-1), last)

    return _tree.map_present(pack_leaf, mask)


def unpack(packed: PyTree) -> Mask:
    """Return the mask that `pack` packed: bool leaves in their own shapes, None where it was None.

    Examples:
      >>> import jax.numpy as jnp
      >>> unpack(pack({"kernel": jnp.array([True, False]), "bias": None}))
      {'bias': None, 'kernel': Array([ True, False], dtype=bool)}
    """

    def unpack_leaf(leaf: PackedMask | None) -> jax.Array | None:
        if leaf is None:
            return None
        count = 1 if leaf.last is None else leaf.last
        if leaf.bits.size == 0:  # jnp.unpackbits divides by it
            return jnp.zeros((*leaf.bits.shape[:-1], count), bool)
        mask = jnp.unpackbits(leaf.bits, axis=-1)[..., :count].astype(bool)
        return mask[..., 0] if leaf.last is None else mask

    return jax.tree.map(unpack_leaf, packed, is_leaf=lambda x: x is None or isinstance(x, PackedMask))
