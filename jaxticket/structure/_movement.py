"""Labels through operations that move, cut and join arrays."""

import math

import numpy as np
from jax.extend.core import JaxprEqn

from jaxticket._jaxpr import shape_of
from jaxticket.structure._elementwise import axis_by_axis, kept_axes
from jaxticket.structure._splits import Split, blocks, refine
from jaxticket.structure._values import Axis, Context, Value, axis_of, value


def transpose(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    return value([axis_of(values[0], axis) for axis in eqn.params["permutation"]])


def squeeze(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    dropped = tuple(eqn.params["dimensions"])
    context.freeze(values[0], "it is picked out by its index", dropped)
    return kept_axes(values[0], dropped)


def broadcast_in_dim(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    shape, to = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    axes = [Axis(context.atoms.fresh(n), copied=True) for n in shape]
    for old, new in enumerate(to):
        if len(values[0].labels[old]) == shape[new]:
            axes[new] = axis_of(values[0], old)
        else:
            context.freeze(values[0], "its single entry is broadcast", (old,))
    zero = values[0].scalar == 0
    return value([axis._replace(null=axis.null or zero) for axis in axes])


def reshape(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    v, shape = values[0], shape_of(eqn.outvars[0])
    if eqn.params["dimensions"] is not None:
        v = value([axis_of(v, axis) for axis in eqn.params["dimensions"]])
    axes: dict[int, Axis] = {}
    if 0 in shape:
        context.freeze(v, "an array without entries is reshaped")
        return context.pinned(shape, "an array without entries is reshaped")
    for old, new in blocks(v.shape, shape):
        regrouped = _regroup(context, [axis_of(v, a) for a in old], [shape[a] for a in new])
        axes.update(zip(new, regrouped, strict=True))
    ones = [axis_of(v, axis) for axis, n in enumerate(v.shape) if n == 1]
    new_ones = [axis for axis in range(len(shape)) if axis not in axes]
    if len(ones) > len(new_ones):  # some of them leave the shape
        for single in ones:
            context.atoms.freeze(single.labels, "it is picked out by its index")
    for axis in new_ones:
        axes[axis] = ones.pop(0) if ones else Axis(context.atoms.fresh(1))
    return value([axes[axis] for axis in range(len(shape))])


def _regroup(context: Context, old: list[Axis], sizes: list[int]) -> list[Axis]:
    """Return the axes of a run of a reshape, and record how they hang together with the old ones."""
    if len(old) == len(sizes) == 1:
        return old
    reason = "a reshape cuts across it"
    if all(np.all(context.atoms.frozen(axis.labels)) for axis in old):
        return [context.pinned_axis(n, "a reshape merges it with axes that stay") for n in sizes]
    factors = refine([len(axis.labels) for axis in old], sizes)
    if factors is None:
        for axis in old:
            context.atoms.freeze(axis.labels, reason)
        return [context.pinned_axis(n, reason) for n in sizes]
    parts, rest = [], list(factors)
    for axis in old:
        parts += _split(context, axis, _take(rest, len(axis.labels)))
    merged, rest = [], list(factors)
    for n in sizes:
        count = len(_take(rest, n))
        merged.append(_merge(context, parts[:count]))
        del parts[:count]
    return merged


def _take(factors: list[int], size: int) -> list[int]:
    """Return the first factors of that product, and remove them from the list."""
    taken = [factors.pop(0)]
    while math.prod(taken) < size:
        taken.append(factors.pop(0))
    return taken


def _split(context: Context, axis: Axis, sizes: list[int]) -> list[Axis]:
    if len(sizes) == 1:
        return [axis]
    parts = [Axis(context.atoms.fresh(n), axis.null, axis.copied) for n in sizes]
    context.splits.append(Split(axis.labels, tuple(p.labels for p in parts), tuple(p.copied for p in parts)))
    return parts


def _merge(context: Context, parts: list[Axis]) -> Axis:
    if len(parts) == 1:
        return parts[0]
    null = all(p.null for p in parts if not np.all(context.atoms.frozen(p.labels)))
    merged = Axis(context.atoms.fresh(math.prod(len(p.labels) for p in parts)), null, all(p.copied for p in parts))
    context.splits.append(Split(merged.labels, tuple(p.labels for p in parts), tuple(p.copied for p in parts)))
    return merged


def concatenate(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    along = eqn.params["dimension"]
    if all(v.shape[along] == 1 for v in values):  # a stack, as older versions of JAX spell it
        for v in values:
            context.freeze(v, "arrays are stacked along it", (along,))
    for v in values[1:]:
        context.join(values[0], v, [axis for axis in range(len(v.labels)) if axis != along])

    def take(axis: int) -> Axis:
        null = all(v.null[axis] for v in values)
        if axis != along:
            return axis_of(values[0], axis)._replace(null=null)
        labels = np.concatenate([v.labels[axis] for v in values])
        return Axis(labels, null or bool(np.all(context.atoms.frozen(labels))))

    return axis_by_axis(values[0], take)


def stack(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    for v in values[1:]:
        context.join(values[0], v)
    axes = [axis_of(values[0], a)._replace(null=all(v.null[a] for v in values)) for a in range(len(values[0].labels))]
    axes.insert(eqn.params["axis"], context.pinned_axis(len(values), "arrays are stacked along it"))
    return value(axes)


def tile(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    """Repeat labels: a channel owns all its copies. An axis of size 1 is broadcast."""
    v, repeats = values[0], eqn.params["reps"]
    for axis, (n, times) in enumerate(zip(v.shape, repeats, strict=True)):
        if n == 1 and times > 1:
            context.freeze(v, "its single entry is broadcast", (axis,))

    def take(axis: int) -> Axis:
        if len(v.labels[axis]) == 1 and repeats[axis] > 1:
            return Axis(context.atoms.fresh(repeats[axis]), copied=True)
        return axis_of(v, axis)._replace(labels=np.tile(v.labels[axis], repeats[axis]))

    return axis_by_axis(v, take)


def cut(v: Value, axis: int, index: slice | np.ndarray) -> Value:
    """Return a value with some entries of one axis."""
    return axis_by_axis(v, lambda a: axis_of(v, a) if a != axis else Axis(v.labels[a][index], v.null[a]))


def slice_(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    (v,), params = values, eqn.params
    strides = params["strides"] or (1,) * len(v.labels)
    for axis, bounds in enumerate(zip(params["start_indices"], params["limit_indices"], strides, strict=True)):
        v = cut(v, axis, slice(*bounds))
    return v


def split(context: Context, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    ends = np.cumsum(eqn.params["sizes"])
    return [
        cut(values[0], eqn.params["axis"], slice(end - n, end))
        for n, end in zip(eqn.params["sizes"], ends, strict=True)
    ]


def unstack(context: Context, eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    axis = eqn.params["axis"]
    context.freeze(values[0], "it is picked out by its index", (axis,))
    return [kept_axes(values[0], (axis,)) for _ in eqn.outvars]


def rev(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    v = values[0]
    for axis in eqn.params["dimensions"]:
        v = cut(v, axis, slice(None, None, -1))
    return v


def pad(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    """Return fresh labels beside those of an axis that is padded at its ends, as channels of shortcuts are."""
    v, config = values[0], eqn.params["padding_config"]
    zero = values[1].scalar == 0 or not np.any(config)

    def take(axis: int) -> Axis:
        low, high, interior = config[axis]
        labels = v.labels[axis]
        if (low, high, interior) == (0, 0, 0):
            return axis_of(v, axis)._replace(null=v.null[axis] and zero)
        if interior or min(low, high) < 0 or np.all(context.atoms.frozen(labels)):
            context.freeze(v, "it is padded", (axis,))
            return context.pinned_axis(shape_of(eqn.outvars[0])[axis], "it is padded")
        ends = [context.atoms.fresh(low), labels, context.atoms.fresh(high)]
        return Axis(np.concatenate(ends), v.null[axis] and zero)

    return axis_by_axis(v, take)


def dynamic_slice(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    """Cut by literal starts as a slice does; axes that data cut are frozen."""
    v, sizes = values[0], eqn.params["slice_sizes"]
    for axis, (n, size) in enumerate(zip(v.shape, sizes, strict=True)):
        start = values[1 + axis].scalar
        if n == size:
            continue
        if start is None:
            context.freeze(v, "data choose where it is sliced", (axis,))
            rest = [axis_of(v, a) for a in range(len(v.labels))]
            rest[axis] = context.pinned_axis(size, "data choose it")
            v = value(rest)
        else:
            first = int(np.clip(start, 0, n - size))
            v = cut(v, axis, slice(first, first + size))
    return v


def dynamic_update_slice(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    v, update = values[:2]
    whole = [axis for axis, n in enumerate(v.shape) if update.shape[axis] == n]
    cut_axes = [axis for axis in range(len(v.labels)) if axis not in whole]
    context.join(v, update, whole)
    for operand in (v, update):
        context.freeze(operand, "a part of it is overwritten", cut_axes)
    return axis_by_axis(v, lambda axis: axis_of(v, axis)._replace(null=v.null[axis] and update.null[axis]))


def gather(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    """Pass axes of which whole slices are taken, as the width of an embedding; axes that indices choose are frozen."""
    v, indices = values
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    batching = dict(zip(numbers.start_indices_batching_dims, numbers.operand_batching_dims, strict=True))
    slices, picked = [], [axis_of(indices, axis) for axis in range(len(indices.labels) - 1)]
    for there, here in batching.items():
        context.atoms.join(v.labels[here], indices.labels[there])
        picked[there] = axis_of(v, here)
    for axis, n in enumerate(v.shape):
        if axis in batching.values():
            continue
        if axis in numbers.collapsed_slice_dims:
            context.freeze(v, "data choose its entries", (axis,))
        elif sizes[axis] == n:
            slices.append(axis_of(v, axis)._replace(null=v.null[axis] and not eqn.params["fill_value"]))
        else:
            context.freeze(v, "data choose its entries", (axis,))
            slices.append(context.pinned_axis(sizes[axis], "data choose its entries"))
    context.freeze(indices, "it holds indices", (len(indices.labels) - 1,))
    out = range(len(shape_of(eqn.outvars[0])))
    return value([slices.pop(0) if axis in numbers.offset_dims else picked.pop(0)._replace(null=False) for axis in out])


def scatter(context: Context, eqn: JaxprEqn, values: list[Value]) -> Value:
    """Join operand and updates along axes of which whole slices are written, as the width of messages on a graph."""
    v, indices, updates = values
    numbers = eqn.params["dimension_numbers"]
    batching = dict(zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True))
    windows = iter(numbers.update_window_dims)
    for axis, n in enumerate(v.shape):
        if axis in batching:
            context.atoms.join(v.labels[axis], indices.labels[batching[axis]])
        elif axis in numbers.inserted_window_dims:
            context.freeze(v, "data choose its entries", (axis,))
        elif n == updates.shape[window := next(windows)]:
            context.atoms.join(v.labels[axis], updates.labels[window])
        else:
            context.freeze(v, "a part of it is overwritten", (axis,))
            context.freeze(updates, "a part of it is overwritten", (window,))
    rest = [axis for axis in range(len(updates.labels)) if axis not in numbers.update_window_dims]
    for axis, own in zip(rest, range(len(indices.labels) - 1), strict=True):
        context.atoms.join(updates.labels[axis], indices.labels[own])
    context.freeze(indices, "it holds indices", (len(indices.labels) - 1,))
    return axis_by_axis(v, lambda axis: axis_of(v, axis)._replace(null=v.null[axis] and all(updates.null)))
