"""Labels through matrix products, convolutions and reductions."""

from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

from jaxticket._jaxpr import shape_of
from jaxticket.structure._elementwise import axis_by_axis, kept_axes
from jaxticket.structure._values import Axis, Context, Node, Product, Value, axis_of, value

# Name -> the parameter that names the axes which it runs over or reduces.
OVER_AXES = {
    **dict.fromkeys(("reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor"), "axes"),
    **dict.fromkeys(("argmax", "argmin"), "axes"),
    "reduce": "dimensions",
}
ALONG = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
WINDOWS = ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum")


def dot_general(context: Context, eqn: JaxprEqn, values: list[Value]) -> Node:
    out, summed = _contract(context, values[0], values[1], eqn.params["dimension_numbers"])
    return Node(tuple(values), (out,), product=Product(out.labels, summed))


def ragged_dot_general(context: Context, eqn: JaxprEqn, values: list[Value]) -> Node:
    """Contract as a product does; the rows that are dealt out to groups, and the groups, such as experts, stay."""
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (left, right, sizes, *offset), groups = values, tuple(numbers.rhs_group_dimensions)
    dealt = "its entries are dealt out to groups"
    context.freeze(left, dealt, numbers.lhs_ragged_dimensions)
    context.freeze(right, "rows are dealt out to its entries", groups)
    for v in (sizes, *offset):
        context.freeze(v, "it holds the sizes of groups")
    out, summed = _contract(context, left, right, numbers.dot_dimension_numbers, groups)
    if set(numbers.lhs_ragged_dimensions) & set(numbers.dot_dimension_numbers[0][0]):  # a product for each group
        first = context.pinned_axis(shape_of(eqn.outvars[0])[0], "rows are dealt out to its entries")
        out = value([first, *(axis_of(out, a) for a in range(len(out.labels)))])
    return Node(tuple(values), (out,), product=Product(out.labels, summed))


def _contract(
    context: Context, left: Value, right: Value, numbers: Any, groups: tuple[int, ...] = ()
) -> tuple[Value, tuple[np.ndarray, ...]]:
    """Return the product of two arrays, without the axes of the right one that hold groups, and what it sums over."""
    (l_sum, r_sum), (l_batch, r_batch) = numbers
    for a, b in zip((*l_sum, *l_batch), (*r_sum, *r_batch), strict=True):
        context.atoms.join(left.labels[a], right.labels[b])
    for a, b in zip(l_sum, r_sum, strict=True):
        if not (left.null[a] or right.null[b]):
            context.atoms.flag(left.labels[a], "a product sums over it where neither factor becomes zero")
    axes = [
        Axis(left.labels[a], left.null[a] or right.null[b], left.copied[a] and right.copied[b])
        for a, b in zip(l_batch, r_batch, strict=True)
    ]
    axes += [axis_of(left, a) for a in range(len(left.labels)) if a not in (*l_sum, *l_batch)]
    axes += [axis_of(right, a) for a in range(len(right.labels)) if a not in (*r_sum, *r_batch, *groups)]
    return value(axes), tuple(left.labels[a] for a in l_sum)


def convolution(context: Context, eqn: JaxprEqn, values: list[Value]) -> Node:
    """Couple the channels of a convolution; in groups, the same offsets of every group."""
    (x, kernel), params = values, eqn.params
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    lhs, rhs, shape = numbers.lhs_spec, numbers.rhs_spec, shape_of(eqn.outvars[0])
    window = "a convolution slides along it"
    context.freeze(x, window, lhs[2:])
    context.freeze(kernel, window, rhs[2:])
    axes = [context.pinned_axis(n, window) for n in shape]
    if params["batch_group_count"] > 1:
        for v in values:
            context.freeze(v, "a convolution over groups of the batch")
        out = value(axes)
    else:
        axes[numbers.out_spec[0]] = axis_of(x, lhs[0])
        axes[numbers.out_spec[1]] = _features(context, axis_of(x, lhs[1]), kernel, rhs, groups)
        out = value(axes)
    summed = tuple(kernel.labels[axis] for axis in rhs[1:])
    return Node(tuple(values), (out,), product=Product(out.labels, summed))


def _features(context: Context, x: Axis, kernel: Value, rhs: tuple[int, ...], groups: int) -> Axis:
    out, inner = axis_of(kernel, rhs[0]), axis_of(kernel, rhs[1])
    if groups == 1:
        context.atoms.join(x.labels, inner.labels)
        if not (x.null or inner.null):
            context.atoms.flag(x.labels, "a convolution sums over it where neither factor becomes zero")
        return out
    if len(inner.labels) == 1:  # depthwise: output o comes from input o // multiplier
        context.freeze(kernel, "a depthwise convolution has one input a filter", (rhs[1],))
        context.atoms.join(out.labels, np.repeat(x.labels, len(out.labels) // groups))
        return out._replace(null=out.null or x.null)
    context.atoms.join(x.labels, np.tile(inner.labels, groups))
    within = out.labels.reshape(groups, -1)
    context.atoms.join(within[1:].ravel(), np.tile(within[0], groups - 1))
    if not (x.null or inner.null):
        context.atoms.flag(x.labels, "a convolution sums over it where neither factor becomes zero")
    return out


def reduce_sum(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    """Drop axes, whose atoms become inexact: a mean or norm over fewer channels is another one."""
    axes = tuple(eqn.params["axes"])
    for axis in axes:
        context.atoms.flag(values[0].labels[axis], "a sum or mean over it changes with its size")
    return kept_axes(values[0], axes)


def reduce_others(context: Context, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    axes = tuple(eqn.params[OVER_AXES[eqn.primitive.name]])
    arrays = [v for v in values if v.labels]
    for v in arrays:
        context.freeze(v, f"{eqn.primitive.name} over it", axes)
        context.join(arrays[0], v)
    if eqn.primitive.name == "reduce":  # whatever it starts from and does
        arrays[0] = arrays[0]._replace(null=(False,) * len(arrays[0].null))
    return [kept_axes(arrays[0], axes) for _ in eqn.outvars]


def along_axis(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    context.freeze(values[0], f"{eqn.primitive.name} along it", (eqn.params["axis"],))
    if eqn.primitive.name == "cumlogsumexp":
        return values[0]._replace(null=(False,) * len(values[0].null))
    return values[0]


def sort(context: Context, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    for v in values:
        context.freeze(v, "it is sorted", (eqn.params["dimension"],))
        context.join(values[0], v)
    return values


def top_k(context: Context, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    v, last = values[0], eqn.params.get("axis", -1) % len(values[0].labels)
    context.freeze(v, "it is sorted", (last,))

    def out(shape: tuple[int, ...]) -> Value:
        return axis_by_axis(v, lambda a: axis_of(v, a) if a != last else context.pinned_axis(shape[a], "it is sorted"))

    kept, places = (out(shape_of(var)) for var in eqn.outvars)
    return [kept, places._replace(null=(False,) * len(places.null))]


def window(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    v, params, shape = values[0], eqn.params, shape_of(eqn.outvars[0])
    size, strides, padding = params["window_dimensions"], params["window_strides"], params["padding"]
    slides = [a for a in range(len(shape)) if (size[a], strides[a], tuple(padding[a])) != (1, 1, (0, 0))]
    if eqn.primitive.name == "reduce_window":  # whatever it starts from and does
        v = v._replace(null=(False,) * len(v.null))
    context.freeze(v, "a window slides along it", slides)
    return axis_by_axis(
        v, lambda a: axis_of(v, a) if a not in slides else context.pinned_axis(shape[a], "a window slides along it")
    )
