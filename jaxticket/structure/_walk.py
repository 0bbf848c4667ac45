"""The walk that labels every axis of a traced function."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn  # type: ignore[attr-defined, unused-ignore]

from jaxticket._jaxpr import body_of, evaluate, scan_sizes, shape_of, walk
from jaxticket.structure import _elementwise, _movement, _reductions
from jaxticket.structure._values import Axis, Context, Node, Tape, Value, axis_of, value

Rule = Callable[[Context, JaxprEqn, list[Value]], Any]  # -> a Node, the values that leave, or the one that leaves

_RULES: dict[str, Rule] = {
    **dict.fromkeys(_elementwise.NAMES, _elementwise.elementwise),
    **dict.fromkeys(("optimization_barrier", "device_put"), _elementwise.pass_through),
    **dict.fromkeys(("iota", "random_bits", "random_gamma", "rng_bit_generator", "rng_uniform"), _elementwise.random),
    **dict.fromkeys(("random_seed", "random_wrap", "random_unwrap", "random_split", "random_fold_in", "random_clone"),
                    _elementwise.random),
    **dict.fromkeys(_reductions.OVER_AXES, _reductions.reduce_others),
    **dict.fromkeys(_reductions.ALONG, _reductions.along_axis),
    **dict.fromkeys(_reductions.WINDOWS, _reductions.window),
    **dict.fromkeys(("debug_callback", "debug_print"), lambda context, eqn, values: []),  # they only look
    "broadcast_in_dim": _movement.broadcast_in_dim,
    "concatenate": _movement.concatenate,
    "conv_general_dilated": _reductions.convolution,
    "dot_general": _reductions.dot_general,
    **dict.fromkeys(("scatter", "scatter-add", "scatter_max", "scatter_min", "scatter_mul", "scatter_sub"),
                    _movement.scatter),
    "dynamic_slice": _movement.dynamic_slice,
    "dynamic_update_slice": _movement.dynamic_update_slice,
    "gather": _movement.gather,
    "pad": _movement.pad,
    "ragged_dot_general": _reductions.ragged_dot_general,
    "reduce_sum": _reductions.reduce_sum,
    "reshape": _movement.reshape,
    "rev": _movement.rev,
    "slice": _movement.slice_,
    "sort": _reductions.sort,
    "split": _movement.split,
    "squeeze": _movement.squeeze,
    "stack": _movement.stack,
    "tile": _movement.tile,
    "top_k": _reductions.top_k,
    "transpose": _movement.transpose,
    "unstack": _movement.unstack,
}  # fmt: skip


def record(context: Context, jaxpr: ClosedJaxpr, values: Sequence[Value], repeats: int = 1) -> Tape:
    """Label every value of a jaxpr, for the labels of its inputs."""
    constants: list[Value] = []
    nodes: list[Node] = []

    def lift(constant: Any) -> Value:
        constants.append(_constant(context, constant))
        return constants[-1]

    def step(eqn: JaxprEqn, entering: list[Value]) -> Sequence[Value]:
        nodes.append(_node(context, eqn, entering))
        return nodes[-1].outputs

    outputs = walk(jaxpr, values, step, lift=lift)
    return Tape(jaxpr, constants, nodes, tuple(outputs), repeats)


def _constant(context: Context, constant: Any) -> Value:
    v = context.fresh(np.shape(constant))
    dtype = getattr(constant, "dtype", None) or jnp.result_type(constant)  # of a key it is none of NumPy's
    known = not v.labels and not isinstance(constant, jax.core.Tracer)
    real = known and (jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating))
    return v._replace(scalar=float(constant)) if real else v


def _node(context: Context, eqn: JaxprEqn, values: list[Value]) -> Node:
    name = eqn.primitive.name
    loop = {"scan": _scan, "while": _while, "cond": _cond}.get(name)
    if loop is not None:
        return loop(context, eqn, values)
    if _returns_integers(eqn):
        return Node(tuple(values), tuple(_unknown(context, eqn, values)))
    if (body := body_of(eqn)) is not None:
        tape = record(context, body, values)
        bodies = (tape, *_derivative(context, eqn, tape, values))
        return Node(tuple(values), tape.outputs, bodies)
    leaving = _RULES.get(name, _unknown)(context, eqn, values)
    if isinstance(leaving, Node):
        return leaving
    return Node(tuple(values), (leaving,) if isinstance(leaving, Value) else tuple(leaving))


def _unknown(context: Context, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    reason = f"{eqn.primitive.name} is a primitive without a rule"
    context.unknown[eqn.primitive.name] = None
    for v in values:
        context.freeze(v, reason)
    return [context.pinned(shape_of(var), reason) for var in eqn.outvars]


CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


def _returns_integers(eqn: JaxprEqn) -> bool:
    """Whether a function with a rule of its own for derivatives returns what has none, beside what has."""
    if eqn.primitive.name not in CUSTOM or not differentiable(eqn):
        return False
    return not all(jnp.issubdtype(_abstract(var).dtype, jnp.inexact) for var in eqn.outvars)


def differentiable(eqn: JaxprEqn) -> list[int]:
    """Return which operands of an equation have derivatives."""
    return [i for i, var in enumerate(eqn.invars) if jnp.issubdtype(_abstract(var).dtype, jnp.inexact)]


def _abstract(var: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype)


def derivative(eqn: JaxprEqn) -> ClosedJaxpr:
    """Return the jaxpr of a custom rule: (operands, tangents) -> tangents, or (operands, cotangents) -> cotangents."""
    floats = differentiable(eqn)
    operands = [_abstract(var) for var in eqn.invars]

    def call(arrays: list[Any], moved: list[Any]) -> list[Any]:
        full = list(arrays)
        for i, x in zip(floats, moved, strict=True):
            full[i] = x
        return evaluate(eqn, full)

    def forward(arrays: list[Any], tangents: list[Any]) -> Any:
        return jax.jvp(lambda *moved: call(arrays, list(moved)), [arrays[i] for i in floats], tangents)[1]

    def backward(arrays: list[Any], cotangents: list[Any]) -> Any:
        return jax.vjp(lambda *moved: call(arrays, list(moved)), *(arrays[i] for i in floats))[1](cotangents)

    if eqn.primitive.name == "custom_jvp_call":
        return jax.make_jaxpr(forward)(operands, [operands[i] for i in floats])
    return jax.make_jaxpr(backward)(operands, [_abstract(var) for var in eqn.outvars])


def _derivative(context: Context, eqn: JaxprEqn, tape: Tape, values: list[Value]) -> tuple[Tape, ...]:
    """Record the custom rule of an equation: tangents are labelled as what they belong to."""
    floats = differentiable(eqn)
    if eqn.primitive.name not in CUSTOM or context.in_rule or not floats:
        return ()
    moved = [values[i] for i in floats] if eqn.primitive.name == "custom_jvp_call" else tape.outputs
    context.in_rule = True  # a rule may call its own function again
    rule = record(context, derivative(eqn), [*values, *moved], repeats=0)
    context.in_rule = False
    return (rule,)


def _scan(context: Context, eqn: JaxprEqn, values: list[Value]) -> Node:
    """Couple the state that enters a loop with the one that leaves it; the axis that it runs over stays whole."""
    constants, state = scan_sizes(eqn)
    body, first = eqn.params["jaxpr"], constants + state
    over = "a scan runs over it"
    for v in values[first:]:
        context.freeze(v, over, (0,))
    rows = [value([axis_of(v, a) for a in range(1, len(v.labels))]) for v in values[first:]]
    carried = values[constants:first]
    tape, carried = _loop(
        context,
        lambda carry: record(context, body, [*values[:constants], *carry, *rows], eqn.params["length"]),
        carried,
    )
    stacked = [
        value([context.pinned_axis(eqn.params["length"], over), *(axis_of(v, a) for a in range(len(v.labels)))])
        for v in tape.outputs[state:]
    ]
    return Node(tuple(values), (*carried, *stacked), (tape,))


def _loop(context: Context, run: Callable[[list[Value]], Tape], carried: list[Value]) -> tuple[Tape, list[Value]]:
    """Record the body of a loop with its state joined to itself, weakened until what is said of it holds."""
    carried = [v._replace(scalar=None) for v in carried]
    while True:
        tape = run(carried)
        for before, after in zip(carried, tape.outputs, strict=False):
            context.join(before, after)
        weaker = [
            before._replace(null=tuple(a and b for a, b in zip(before.null, after.null, strict=True)))
            for before, after in zip(carried, tape.outputs, strict=False)
        ]
        if [v.null for v in weaker] == [v.null for v in carried]:
            return tape, weaker
        carried = weaker


def _while(context: Context, eqn: JaxprEqn, values: list[Value]) -> Node:
    params = eqn.params
    tested, used = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    body, carried = _loop(
        context, lambda carry: record(context, params["body_jaxpr"], [*values[tested:used], *carry]), values[used:]
    )
    condition = record(context, params["cond_jaxpr"], [*values[:tested], *carried])
    return Node(tuple(values), tuple(carried), (condition, body))


def _cond(context: Context, eqn: JaxprEqn, values: list[Value]) -> Node:
    context.freeze(values[0], "a condition reads it")
    tapes = tuple(record(context, branch, values[1:]) for branch in eqn.params["branches"])
    first = tapes[0].outputs
    for tape in tapes[1:]:
        for a, b in zip(first, tape.outputs, strict=True):
            context.join(a, b)
    outputs = [
        value([_weakest([axis_of(t.outputs[i], a) for t in tapes]) for a in range(len(v.labels))])
        for i, v in enumerate(first)
    ]
    return Node(tuple(values), tuple(outputs), tapes)


def _weakest(axes: list[Axis]) -> Axis:
    return axes[0]._replace(null=all(a.null for a in axes))
