"""States of `sparsify` that belong to another plan or optimizer."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree
from jaxticket.errors import InputError
from jaxticket.transforms._state import SparseState
from jaxticket.typing import Params, PyTree


def check_inner(inner: optax.GradientTransformation, state: SparseState, params: Params) -> None:
    """Raise InputError for the state of an optimizer whose arrays are others than those of `inner`.

    Some optimizers would train with it all the same: `optax.sgd` passes any state on.
    """
    try:
        expected = jax.eval_shape(inner.init, params)
    except Exception:  # it reads the values of parameters
        return
    if _shapes(state.inner) != _shapes(expected):
        raise _reject(state.inner, expected, "inner", "optimizer")


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


def _shapes(tree: PyTree) -> list[tuple[int, ...]]:
    return [jnp.shape(x) for x in jax.tree.leaves(tree)]
