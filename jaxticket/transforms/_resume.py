"""Schedules that resume at a step, under an optimizer that is otherwise fresh."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxticket import _layers, _tree
from jaxticket._check_trees import check_arrays
from jaxticket._checks import check_count
from jaxticket.errors import InputError
from jaxticket.transforms._state import is_sparse_state
from jaxticket.transforms._surgery import choose_leaves, mark, mark_counts
from jaxticket.typing import Params, PyTree

_NAMES = ("count", "step")  # as optax's states call them


def resume_schedules(
    tx: optax.GradientTransformation, state: PyTree, params: Params, *, step: int | jax.Array
) -> PyTree:
    """Return the optimizer state with the counts of its schedules at `step`, and all else as it is.

    A ticket that was rewound to step k trains with a fresh optimizer, whose schedules would start at 0 again. Now they
    resume at k, while the bias corrections of the fresh moments count from 0. (Counted from k, Adam's first step would
    be 3.2 times the rate.) The count of `sparsify`, which its plan reads, resumes too.

    A schedule's count is the only scalar integer of a node of the state. It is called `count` or `step`, or has no
    name, and no moments stand next to it.

    Args:
      tx: the optimizer.
      state: its state.
      params: the parameters, for their structure.
      step: the number of steps before the next one; it may be traced.

    Returns:
      The optimizer state.

    Raises:
      InputError: a negative step, or a state without the count of a schedule. An optimizer that reads its schedule from
        the count of its moments, such as prodigy, has none: pass it lambda count: schedule(count + step).
      StructureError: a state that is not that of `tx` for these params.

    Examples:
      >>> tx, params = optax.adam(optax.linear_schedule(1.0, 0.0, 100)), {"w": jnp.ones(2)}
      >>> adam, rate = resume_schedules(tx, tx.init(params), params, step=40)
      >>> int(adam.count), int(rate.count)
      (0, 40)
    """
    params = _layers.trainable(params)
    check_arrays("params", params)
    check_count(0, step=step)
    unmarked = mark(tx, state, params, _tree.tree_map(lambda _: None, params))
    marked = mark_counts(unmarked, jax.tree.structure(params), jnp.bool_(True), _is_of_a_schedule)
    if all(entries.chosen is None for entries in jax.tree.leaves(marked)):
        raise InputError(
            "state holds no count of a schedule; give tx a schedule, or leave resume_schedules out. An optimizer that "
            "reads its schedule from the count of its moments takes lambda count: schedule(count + step)."
        )
    return choose_leaves(marked, state, jax.tree.map(lambda leaf: _at(leaf, step), state))


def _is_of_a_schedule(node: Any, key: Any, beside_moments: bool) -> bool:
    if is_sparse_state(node):  # its mask is shaped like the parameters, and is no moment
        return True
    name = getattr(key, "name", None)
    return not beside_moments and (name is None or name in _NAMES)


def _at(leaf: Any, step: int | jax.Array) -> Any:
    is_count = jnp.shape(leaf) == () and jnp.issubdtype(jnp.result_type(leaf), jnp.integer)
    return jnp.asarray(step, leaf.dtype) if is_count else leaf
