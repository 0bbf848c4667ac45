"""States of `sparsify` that belong to another plan or optimizer."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree
from jaxticket.errors import InputError
from jaxticket.transforms._base import Plan
from jaxticket.transforms._state import SparseState
from jaxticket.transforms._unit_mask import expand_mask
from jaxticket.typing import Key, Params, PyTree


def check_owner(
    plan: Plan, inner: optax.GradientTransformation, state: SparseState, params: Params, *, key: Key | None
) -> None:
    """Raise InputError for the state of a plan or an optimizer whose arrays are others than those of these.

    Some would train with it all the same: `optax.sgd` and RigL pass any state on.
    """
    # From the mask of the state, so that nothing is selected.
    refresh = _shapes_of(lambda p: plan.refresh.init(p, expand_mask(state.mask), key=key)[1], params)
    for part, owner, expected in (("refresh", "plan", refresh), ("inner", "optimizer", _shapes_of(inner.init, params))):
        given = getattr(state, part)
        if expected is not None and _shapes(given) != _shapes(expected):
            raise _reject(given, expected, part, owner)


def explain(error: Exception, init: Callable[[Params], SparseState], state: SparseState, params: Params) -> None:
    """Raise InputError if a step failed since the state is that of another plan or optimizer; else return."""
    try:
        fresh = jax.eval_shape(init, params)
    except Exception:  # the step's own error says more
        return
    for part, owner in (("refresh", "plan"), ("inner", "optimizer")):
        given, expected = getattr(state, part), getattr(fresh, part)
        if _tree.structure(given) != _tree.structure(expected):
            raise _reject(given, expected, part, owner) from error


def _reject(given: PyTree, expected: PyTree, part: str, owner: str) -> InputError:
    difference = _tree.describe_difference(given, expected, "the given state", "tx.init(params)")
    return InputError(f"state is that of another {owner}: in state.{part}, {difference}.")


def _shapes_of(init: Callable[[Params], PyTree], params: Params) -> PyTree | None:
    """Return the shapes that `init` makes, or None where it needs the values of parameters."""
    try:
        return jax.eval_shape(init, params)
    except Exception:
        return None


def _shapes(tree: PyTree) -> list[tuple[int, ...]]:
    return [jnp.shape(x) for x in jax.tree.leaves(tree)]
