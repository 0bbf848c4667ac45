"""A walk over jaxprs, equation by equation, whatever framework the model was written in.

A walk carries values of any kind along the equations (arrays with tags, labels of axes, …). `lift` makes a value of a
constant; `step` turns the values that enter an equation into those that leave it. Calls and loops reach `step` as they
are; it may enter a call with `body_of`, and each kind of loop by a rule of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr as ClosedJaxpr  # type: ignore[attr-defined, unused-ignore]
from jax.extend.core import JaxprEqn, Literal

from jaxticket._jaxpr._layout import Layout, broadcast, regroup

Step = Callable[[JaxprEqn, list[Any]], Sequence[Any]]  # (equation, values that enter) -> values that leave

_BODIES = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
# Operations on one array that leave each entry in its place.
_IN_PLACE = ("convert_element_type", "copy", "copy_p", "name", "optimization_barrier", "reduce_precision", "pvary")


def walk(jaxpr: ClosedJaxpr, values: Sequence[Any], step: Step, *, lift: Callable[[Any], Any]) -> list[Any]:
    """Return the values of the outputs, for those of the inputs.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> traced = jax.make_jaxpr(lambda x: 2 * jnp.sin(x))(1.0)
      >>> walk(traced, ["x"], lambda eqn, values: [f"{eqn.primitive.name}({', '.join(values)})"], lift=str)
      ['mul(2.0, sin(x))']
    """
    inner = jaxpr.jaxpr
    held = dict(zip(inner.constvars, map(lift, jaxpr.consts), strict=True))
    held.update(zip(inner.invars, values, strict=True))

    def read(atom: Any) -> Any:
        return lift(atom.val) if isinstance(atom, Literal) else held[atom]

    for eqn in inner.eqns:
        held.update(zip(eqn.outvars, step(eqn, [read(atom) for atom in eqn.invars]), strict=True))
    return [read(atom) for atom in inner.outvars]


def body_of(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """Return the body of an equation that is a call and nothing more (jit, remat, custom derivatives), else None."""
    body = eqn.params.get(_BODIES.get(eqn.primitive.name, ""))
    return body if body is None or hasattr(body, "consts") else ClosedJaxpr(body, [])


def scan_sizes(eqn: JaxprEqn) -> tuple[int, int]:
    """Return how many of a scan's operands are constants and how many its state; the rest is what it runs over."""
    if "num_consts" in eqn.params:
        return eqn.params["num_consts"], eqn.params["num_carry"]
    constants, state, _ = eqn.params["ft_in"].unpack()  # newer versions of JAX: trees of the operands
    return len(list(constants)), len(list(state))


def evaluate(eqn: JaxprEqn, arrays: Sequence[Any]) -> list[Any]:
    """Return the arrays that leave an equation."""
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*arrays, **eqn.primitive.get_bind_params(eqn.params))
    return list(out) if eqn.primitive.multiple_results else [out]


def move(eqn: JaxprEqn, layout: Layout) -> Layout | None:
    """Return the layout after an operation on one operand that at most moves entries; None after any other."""
    name, params, shape = eqn.primitive.name, eqn.params, shape_of(eqn.outvars[0])
    if len(eqn.invars) != 1:
        return None
    if name in _IN_PLACE:
        return layout
    if name == "transpose":
        return tuple(layout[axis] for axis in params["permutation"])
    if name == "squeeze":
        return tuple(parts for axis, parts in enumerate(layout) if axis not in params["dimensions"])
    if name == "reshape" and params["dimensions"] is None:
        return regroup(layout, shape)
    if name == "broadcast_in_dim":
        return broadcast(layout, shape, params["broadcast_dimensions"], shape_of(eqn.invars[0]))
    return None


def shape_of(atom: Any) -> tuple[int, ...]:
    """Return the shape of a variable or literal."""
    return tuple(atom.aval.shape)


def trace(f: Callable[..., Any], *arguments: Any) -> tuple[ClosedJaxpr, Any]:
    """Return the jaxpr of `f` on flattened arguments, and the structure of its outputs."""
    jaxpr, shapes = jax.make_jaxpr(f, return_shape=True)(*arguments)
    return jaxpr, jax.tree.structure(shapes)
