"""The optimizer's memory of newborn weights: states whose chosen entries are those of a new zero parameter."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree
from jaxticket._checks import check_arrays, check_fits
from jaxticket.errors import StructureError
from jaxticket.typing import Mask, Params, PyTree


class _Entries:
    """The shape of a leaf and its chosen entries; not a pytree, so that it travels as one leaf."""

    def __init__(self, shape: tuple[int, ...] | None, chosen: jax.Array | None):
        self.shape = shape
        self.chosen = chosen


_NOTHING = _Entries(None, None)


def reset_moments(inner: optax.GradientTransformation, state: PyTree, params: Params, chosen: Mask) -> PyTree:
    """Return the state of `inner` with the chosen entries as `inner.init` makes them for a zero parameter.

    It works for any optax state, by optax's own account of the leaves that are shaped like the parameters
    (`optax.tree_map_params`). Leaves of another shape (adafactor's rows and columns) are shared by many weights and
    stay.

    Args:
      inner: the optimizer.
      state: its state.
      params: the parameters, for shapes and dtypes.
      chosen: the entries to reset, as a mask; None leaves are left alone.

    Returns:
      The new state.

    Raises:
      StructureError: a state that is not that of `inner` for these params.
    """
    check_arrays("params", params)
    fresh = inner.init(jax.tree.map(jnp.zeros_like, params))
    return choose_moments(inner, state, fresh, params, chosen)


def choose_moments(
    inner: optax.GradientTransformation, state: PyTree, other: PyTree, params: Params, chosen: Mask
) -> PyTree:
    """Return the state of `inner` with the chosen entries from the state `other`, as `reset_moments` chooses them."""
    check_fits(params, chosen, name="chosen")
    entries = _tree.tree_map(lambda p, c: None if p is None else _Entries(p.shape, c), params, chosen)
    try:
        marked = optax.tree_map_params(
            inner,
            lambda leaf, entry: leaf if _is_hole(leaf) else entry,
            state,
            entries,
            transform_non_params=lambda _: _NOTHING,
            is_leaf=_is_hole,
        )
        return jax.tree.map(_choose_leaf, marked, state, other)
    except ValueError as error:
        raise StructureError(
            f"state is not that of inner for these params ({' '.join(str(error).split()):.300})"
        ) from error


def _choose_leaf(entry: Any, leaf: Any, other: Any) -> Any:
    if entry.chosen is None or jnp.shape(leaf) != entry.shape:
        return leaf
    return jnp.where(entry.chosen, other, leaf)


def _is_hole(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)
