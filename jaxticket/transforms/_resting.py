"""Steps on which an optimizer rests, at no cost on the others."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from jaxticket.typing import Params, PyTree


def update_unless(
    rest: jax.Array, update: Callable[..., tuple[Params, PyTree]], grads: Params, state: PyTree, params: Params
) -> tuple[Params, PyTree]:
    """What `update(grads, state, params)` returns, but zero updates and the old state where `rest` (bool scalar) holds.

    The plain way, where(rest, old, new) around the optimizer, makes XLA on CPU copy every moment and compute it twice:
    the updates are made from the new moments, what is stored is another array (10 % of the step of a small network; a
    `cond` around the optimizer costs 25 %). Here the choice is made where a new moment is computed, inside the
    optimizer, and the updates are made from what is stored. On a resting step they are then wrong, and replaced.
    """
    closed, shape = jax.make_jaxpr(update, return_shape=True)(grads, state, params)
    jaxpr = closed.jaxpr
    old = jax.tree.leaves(state)
    outputs = jaxpr.outvars[len(jaxpr.outvars) - len(old) :]
    # An output that is an input, a constant, another output as well, or of another type than the state's leaf cannot be
    # replaced where it is made: these wait for the end.
    uses = Counter(v for v in outputs if not isinstance(v, Literal))
    once = {v for eqn in jaxpr.eqns for v in eqn.outvars if uses[v] == 1}
    held = {
        v: leaf
        for v, leaf in zip(outputs, old, strict=True)
        if not isinstance(v, Literal) and v in once and _resembles(v.aval, leaf)
    }

    inputs = jax.tree.leaves((grads, state, params))
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *inputs], strict=True))

    def value(v: Any) -> Any:
        return v.val if isinstance(v, Literal) else values[v]

    for eqn in jaxpr.eqns:
        with eqn.ctx.manager:
            made_now = eqn.primitive.bind(*map(value, eqn.invars), **eqn.primitive.get_bind_params(eqn.params))
        for v, x in zip(eqn.outvars, made_now if eqn.primitive.multiple_results else [made_now], strict=True):
            values[v] = jnp.where(rest, held[v], x) if v in held else x

    updates, stepped = jax.tree.unflatten(jax.tree.structure(shape), list(map(value, jaxpr.outvars)))
    updates = jax.tree.map(lambda u: jnp.where(rest, jnp.zeros_like(u), u), updates)
    chosen = [
        x if not isinstance(v, Literal) and v in held else jnp.where(rest, leaf, x)
        for v, leaf, x in zip(outputs, old, jax.tree.leaves(stepped), strict=True)
    ]
    return updates, jax.tree.unflatten(jax.tree.structure(stepped), chosen)


def _resembles(aval: Any, leaf: Any) -> bool:
    """Whether a variable has the shape and the type of a leaf."""
    return (aval.shape, aval.dtype) == (jnp.shape(leaf), jnp.result_type(leaf))
