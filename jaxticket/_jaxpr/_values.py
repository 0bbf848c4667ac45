"""The values that a walk for products carries along a jaxpr."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn
from jax.lax import GatherScatterMode

from jaxticket._jaxpr._layout import Layout
from jaxticket._jaxpr._products import Weight, pick_from
from jaxticket._jaxpr._walk import move, shape_of

# Operations on a weight and on arrays that do not depend on data (masks, scales, …) that leave entries in place.
_ELEMENTWISE = ("add", "add_any", "sub", "mul", "div", "select_n")
# Operations that add a bias and a norm in evaluation mode to a layer's output.
_AFFINE = ("add", "add_any", "sub", "mul", "div")


class Value(NamedTuple):
    """An array on its way: whether it depends on data, and the weight or the output of a product that it is."""

    array: Any
    data: bool = False
    weight: Any = None  # a Weight, or None
    output: Any = None  # (index of the product, layout of the output), or None


def output_after(eqn: JaxprEqn, values: list[Value]) -> tuple[int, Layout] | None:
    """Return the product of whose output an equation moves entries, or to which it adds a bias or norm; its layout."""
    at = next((i for i, v in enumerate(values) if v.output is not None), None)
    if at is None or len(eqn.outvars) != 1:
        return None
    index, layout = values[at].output
    affine = (
        eqn.primitive.name in _AFFINE
        and not any(v.data or _belongs_to_activation(v) for i, v in enumerate(values) if i != at)
        and jnp.shape(values[at].array) == shape_of(eqn.outvars[0])
        and (at == 0 or eqn.primitive.name not in ("sub", "div"))
    )
    after = layout if affine else move(eqn, layout)
    return None if after is None else (index, after)


def _belongs_to_activation(v: Value) -> bool:
    """Whether an array is a constant without axes; biases and norms are leaves or have axes, if of size 1."""
    return v.weight is None and jnp.ndim(v.array) == 0


def pick_after(eqn: JaxprEqn, values: list[Value]) -> Weight | None:
    """Return the weight of which an equation takes whole layers: w[i], w[index], w[2:4], along one axis.

    Rows of a matrix, such as those of an embedding, are data where data choose them.
    """
    find = {"slice": _static_pick, "dynamic_slice": _dynamic_pick, "gather": _gathered_pick}.get(eqn.primitive.name)
    if find is None or (weight := values[0].weight) is None:
        return None
    if any(v.data for v in values[1:]) and sum(map(bool, weight.layout)) < 3:
        return None
    return find(eqn, weight, [v.array for v in values[1:]])


def unstacked_after(eqn: JaxprEqn, values: list[Value]) -> list[Weight | None]:
    """Return the weights whose layers are the outputs of an equation: those of `unstack`, a Python loop in jax 0.12."""
    if eqn.primitive.name != "unstack" or (weight := values[0].weight) is None:
        return [None] * len(eqn.outvars)
    at = eqn.params["axis"]
    picked = [pick_from(weight, at, jnp.arange(i, i + 1)) for i in range(len(eqn.outvars))]
    return [p and p._replace(layout=p.layout[:at] + p.layout[at + 1 :]) for p in picked]


def _static_pick(eqn: JaxprEqn, weight: Weight, operands: list[Any]) -> Weight | None:
    start, limit = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * len(start)
    cut = [a for a, n in enumerate(shape_of(eqn.invars[0])) if (start[a], limit[a], strides[a]) != (0, n, 1)]
    if len(cut) != 1:
        return None
    (at,) = cut
    return pick_from(weight, at, jnp.arange(start[at], limit[at], strides[at]))


def _dynamic_pick(eqn: JaxprEqn, weight: Weight, starts: list[Any]) -> Weight | None:
    shape, sizes = shape_of(eqn.invars[0]), eqn.params["slice_sizes"]
    cut = [a for a, n in enumerate(shape) if sizes[a] != n]
    if len(cut) != 1:
        return None
    (at,) = cut
    start = jnp.clip(starts[at], 0, shape[at] - sizes[at])  # as dynamic_slice does
    return pick_from(weight, at, start + jnp.arange(sizes[at]))


def _gathered_pick(eqn: JaxprEqn, weight: Weight, operands: list[Any]) -> Weight | None:
    shape, sizes = shape_of(eqn.invars[0]), eqn.params["slice_sizes"]
    numbers, (indices,) = eqn.params["dimension_numbers"], operands
    cut = [a for a, n in enumerate(shape) if sizes[a] != n]
    if len(cut) != 1 or sizes[cut[0]] != 1 or numbers.operand_batching_dims or cut[0] not in numbers.start_index_map:
        return None
    (at,) = cut
    index = indices[..., numbers.start_index_map.index(at)]
    if eqn.params["mode"] == GatherScatterMode.CLIP:
        index = jnp.clip(index, 0, shape[at] - 1)
    picked = pick_from(weight, at, index)
    if picked is None:
        return None
    # Slices keep their axes but for those that are collapsed; the axes of the indices come where slices have none.
    chosen = list(picked.layout[at : at + index.ndim])
    whole = [*picked.layout[:at], (), *picked.layout[at + index.ndim :]]
    slices = [parts for a, parts in enumerate(whole) if a not in numbers.collapsed_slice_dims]
    out = len(shape_of(eqn.outvars[0]))
    layout = [slices.pop(0) if a in numbers.offset_dims else chosen.pop(0) for a in range(out)]
    return picked._replace(layout=tuple(layout))


def weight_after(eqn: JaxprEqn, values: list[Value]) -> Weight | None:
    """Return the weight that the output of an equation still is, entry by entry."""
    shape = shape_of(eqn.outvars[0])
    for v in values:
        if v.weight is None or (len(values) > 1 and (eqn.primitive.name not in _ELEMENTWISE or v.array.shape != shape)):
            continue
        layout = v.weight.layout if len(values) > 1 else move(eqn, v.weight.layout)
        return None if layout is None else v.weight._replace(layout=layout)
    return None


def scanned_axis(stacked: Value) -> int | None:
    """Return the leaf's axis over which a scan runs, if it is one whole axis of a leaf."""
    if stacked.weight is None or len(stacked.weight.layout[0]) != 1:
        return None
    (part,) = stacked.weight.layout[0]
    if not isinstance(part.axis, int):
        return None
    others = [p.axis for axis in stacked.weight.layout[1:] for p in axis]
    return None if part.stride != 1 or part.axis in others else part.axis


def layer_slice(stacked: Value, x: jax.Array, axis: int | None, slot: jax.Array | None) -> Value:
    """Return the part of a stacked leaf that the body of a scan sees."""
    if axis is None:
        return Value(x, stacked.data)
    slot = None if slot is None else jnp.expand_dims(slot, axis)
    return Value(x, stacked.data, stacked.weight._replace(layout=stacked.weight.layout[1:], slot=slot))
