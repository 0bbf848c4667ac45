"""The optimizer's memory of newborn weights: chosen entries of its state, and their step counts, are made new."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree
from jaxticket._check_trees import check_arrays, check_fits
from jaxticket.errors import StructureError
from jaxticket.typing import Mask, Params, PyTree


class Entries:
    """The shape of a leaf and its chosen entries; not a pytree, so that it travels as one leaf."""

    def __init__(self, shape: tuple[int, ...] | None, chosen: jax.Array | None):
        self.shape = shape
        self.chosen = chosen


_NOTHING, _COUNT = Entries(None, None), Entries(None, None)


def reset_moments(inner: optax.GradientTransformation, state: PyTree, params: Params, chosen: Mask) -> PyTree:
    """Return the state of `inner` with the chosen entries as `inner.init` makes them for a zero parameter.

    It works for any optax state, by optax's own account of the leaves that are shaped like the parameters
    (`optax.tree_map_params`), or by structure and shapes where that fails (sm3, L-BFGS, `optax.flatten`, states that
    are lists). Leaves of another shape (adafactor's rows and columns, the memory of L-BFGS, flat vectors) stay, and so
    do step counts: the entries of a running Adam that restart take a first step of (1 − b1) / √(1 − b2) times
    the rate, 3.2 times by default. An inner
    `chain(scale_by_adam(), clip(1.0), scale_by_learning_rate(rate))` bounds it to the rate.

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


def restart_moments(inner: optax.GradientTransformation, state: PyTree, params: Params, restarts: jax.Array) -> PyTree:
    """Return the state of `inner` with all moments, and the counts of their steps, as `inner.init` makes them.

    A count belongs to moments if it is the only scalar integer of a node of the state that also holds, next to it, a
    tree shaped like the parameters: Adam's count for its bias correction, not that of a schedule. An optimizer that
    reads its schedule from the count of its moments restarts both.

    Args:
      inner: the optimizer.
      state: its state.
      params: the parameters from which the moments restart.
      restarts: bool scalar; without it the state stays.
    """
    everything = jax.tree.map(lambda p: jnp.broadcast_to(restarts, (1,) * p.ndim), params)
    of_moments = lambda node, key, beside_moments: beside_moments
    marked = mark_counts(mark(inner, state, params, everything), jax.tree.structure(params), restarts, of_moments)
    return choose_leaves(marked, state, inner.init(params))


def choose_moments(
    inner: optax.GradientTransformation, state: PyTree, other: PyTree, params: Params, chosen: Mask
) -> PyTree:
    """Return the state of `inner` with the chosen entries from the state `other`, as `reset_moments` chooses them."""
    chosen = check_fits(params, chosen, name="chosen")
    return choose_leaves(mark(inner, state, params, chosen), state, other)


def choose_leaves(marked: PyTree, state: PyTree, other: PyTree) -> PyTree:
    """Return the state with the entries that are marked as chosen from the state `other`."""
    try:
        return jax.tree.map(_choose_leaf, marked, state, other)
    except ValueError as error:
        raise _reject_state(error) from error


def mark(inner: optax.GradientTransformation, state: PyTree, params: Params, chosen: Mask) -> PyTree:
    """Return the state with `Entries` for leaves: the chosen ones of moments, `_COUNT` for scalar integers."""
    entries = _tree.tree_map(lambda p, c: None if p is None else Entries(p.shape, c), params, chosen)
    is_empty = lambda x: x is None or _is_hole(x)  # a mask in the state is None at leaves that are not sparsified
    try:
        return optax.tree_map_params(
            inner,
            lambda leaf, entry: leaf if is_empty(leaf) else entry,
            state,
            entries,
            transform_non_params=lambda leaf: _COUNT if _is_count(leaf) else _NOTHING,
            is_leaf=is_empty,
        )
    except Exception as error:  # `init` may read the leaves of its argument, and optax's placeholder has none
        expected: Any = jax.tree.structure(jax.eval_shape(inner.init, params))
        if expected != jax.tree.structure(state):
            raise _reject_state(error) from error
        return _mark_alike(state, entries, jax.tree.structure(params))


def _mark_alike(state: PyTree, entries: PyTree, template: Any) -> PyTree:
    """Return the state marked by structure: its trees with the structure and the shapes of the parameters are moments.

    So it goes for sm3, L-BFGS, optax.flatten and states that are lists.
    """
    leaves, structure = jax.tree.flatten(state)
    alike = structure == template and [jnp.shape(x) for x in leaves] == [e.shape for e in jax.tree.leaves(entries)]
    if alike:
        return jax.tree.unflatten(structure, jax.tree.leaves(entries))
    children, structure = jax.tree.flatten(state, is_leaf=lambda x: x is not state)
    if len(children) == 1 and children[0] is state:
        return _COUNT if _is_count(state) else _NOTHING
    return jax.tree.unflatten(structure, [_mark_alike(child, entries, template) for child in children])


def mark_counts(marked: PyTree, template: Any, chosen: jax.Array, wanted: Callable[[Any, Any, bool], bool]) -> PyTree:
    """Return the marked state in which `chosen` marks the wanted counts.

    A count is the only scalar integer of its node. wanted(node, key, beside moments) gets the key at which it stands in
    the node, and whether a tree shaped like the parameters, whose structure is `template`, stands next to it.
    """
    keyed, structure = jax.tree_util.tree_flatten_with_path(marked, is_leaf=lambda x: x is not marked)
    children = [child for _, child in keyed]
    if children == [marked]:  # a leaf
        return marked
    counts = [i for i, child in enumerate(children) if child is _COUNT]
    beside_moments = any(_is_moments(child, template) for child in children)
    if len(counts) == 1 and wanted(marked, keyed[counts[0]][0][0], beside_moments):
        children[counts[0]] = Entries((), chosen)
    return jax.tree.unflatten(structure, [mark_counts(child, template, chosen, wanted) for child in children])


def _is_moments(marked: PyTree, template: Any) -> bool:
    leaves, structure = jax.tree.flatten(marked, is_leaf=_is_hole)
    shaped = [x for x in leaves if not _is_hole(x)]
    return structure == template and bool(shaped) and all(x.shape is not None for x in shaped)


def _choose_leaf(entry: Any, leaf: Any, other: Any) -> Any:
    if entry.chosen is None or jnp.shape(leaf) != entry.shape:
        return leaf
    return jnp.where(entry.chosen, other, leaf)


def _is_count(leaf: Any) -> bool:
    return jnp.shape(leaf) == () and jnp.issubdtype(jnp.result_type(leaf), jnp.integer)


def _is_hole(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _reject_state(error: Exception) -> StructureError:
    return StructureError(f"state is not that of inner for these params ({' '.join(str(error).split()):.300})")
