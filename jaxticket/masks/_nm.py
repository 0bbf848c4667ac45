"""N:M sparsity of masks."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, scopes
from jaxticket._check_trees import check_mask
from jaxticket._checks import check_count
from jaxticket.typing import Mask


def is_nm(mask: Mask, n: int, m: int, *, axis: int | Mapping[str, int] | None = None) -> jax.Array:
    """Whether a mask keeps at most `n` of each `m` consecutive inputs, in every leaf that is sparsified.

    Args:
      mask: pytree of bool arrays or None. An axis of inputs of size 1 stands for whole groups.
      n: the most entries that a group may keep.
      m: the number of entries in a group; the last group may be smaller.
      axis: the axis of inputs, as in `scopes.groups`; None where it follows from the names.

    Returns:
      A bool scalar.

    Raises:
      InputError: n < 0 or m < 1, a mask that is not bool, or a leaf whose axis is not known or does not exist.

    Examples:
      >>> import jax.numpy as jnp
      >>> mask = {"kernel": jnp.array([[True], [False], [False], [True]])}
      >>> is_nm(mask, 2, 4), is_nm(mask, 1, 4)
      (Array(True, dtype=bool), Array(False, dtype=bool))
    """
    check_mask("mask", mask)
    check_count(0, n=n)
    check_count(1, m=m)
    by_leaf = scopes.groups(int(m), axis=axis).bind(mask)

    def holds(keep: jax.Array, scope: Any) -> jax.Array:
        groups = scope.view(keep)
        (along,) = scope.axes(keep.shape)
        weight = m if keep.shape[along - 1] == 1 else 1
        return jnp.all(weight * jnp.sum(groups, along, dtype=jnp.int32) <= n)

    leaves = jax.tree.leaves(_tree.map_present(holds, mask, by_leaf))
    return functools.reduce(jnp.logical_and, leaves, jnp.bool_(True))
