"""The place of `sparsify` among other optax transforms, as far as a state shows it."""

from typing import Any

import jax

from jaxticket.errors import InputError
from jaxticket.typing import PyTree

_INSIDE = "put it inside sparsify, as sparsify(optax.chain(...), plan)"
# Optimizers whose parameters are averages of those that the inner one makes, and what to do instead.
_AVERAGES = {
    "LookaheadState": "average the parameters after each step, and mask the average where it is used (apply_mask)",
    "ScheduleFreeState": _INSIDE,
}


def check_comes_last(state: PyTree, kind: type) -> None:
    """Raise InputError if the state shows a transform that acts on the updates of `sparsify`, whose state is `kind`."""
    if isinstance(state, kind):
        return
    children = jax.tree.leaves(state, is_leaf=lambda x: x is not state)
    if len(children) == 1 and children[0] is state:
        return
    sparse = [i for i, child in enumerate(children) if _holds(child, kind)]
    around = type(state).__name__
    if sparse and around in _AVERAGES:
        raise InputError(
            f"{around} around sparsify: its parameters are averages, which hold weights outside the mask; "
            f"{_AVERAGES[around]}."
        )
    if sparse and type(state) is tuple and sparse[-1] != len(children) - 1:
        after = type(children[-1]).__name__
        raise InputError(f"sparsify comes last in a chain, but a transform with state {after} follows it; {_INSIDE}.")
    for child in children:
        check_comes_last(child, kind)


def _holds(state: Any, kind: type) -> bool:
    return any(isinstance(leaf, kind) for leaf in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kind)))
