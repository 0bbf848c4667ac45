"""Layouts: where reshapes and transposes have moved the axes of another array, the origin."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

Axis = int | tuple[str, int]  # an axis of the origin, or the name of an axis that it does not have


class Part(NamedTuple):
    """A digit of an index of the origin: index // stride % size along `axis`."""

    axis: Axis
    size: int
    stride: int = 1


# The parts that make up each axis of an array, the most significant first; none for an axis of size 1.
Layout = tuple[tuple[Part, ...], ...]


def whole(shape: Sequence[int]) -> Layout:
    """Return the layout of the origin itself.

    Examples:
      >>> whole((3, 1))
      ((Part(axis=0, size=3, stride=1),), ())
    """
    return tuple((Part(axis, n),) if n != 1 else () for axis, n in enumerate(shape))


def regroup(layout: Layout, shape: Sequence[int]) -> Layout | None:
    """Return the layout after a reshape, or None where it cuts across parts.

    Examples:
      >>> regroup(whole((6, 5)), (2, 3, 5))[:2]
      ((Part(axis=0, size=2, stride=3),), (Part(axis=0, size=3, stride=1),))
    """
    if 0 in shape:
        return None
    parts = [part for axis in layout for part in axis]
    axes = []
    for n in shape:
        axis: list[Part] = []
        while n > 1:
            part = parts.pop(0)
            if n % part.size == 0:
                axis.append(part)
                n //= part.size
            elif part.size % n == 0:
                rest = part.size // n
                axis.append(Part(part.axis, n, part.stride * rest))
                parts.insert(0, Part(part.axis, rest, part.stride))
                n = 1
            else:
                return None
        axes.append(tuple(axis))
    return tuple(axes)


def broadcast(layout: Layout, shape: Sequence[int], to: Sequence[int], old: Sequence[int]) -> Layout | None:
    """Return the layout after a broadcast to `shape`, in which axis i of the `old` shape became axis to[i].

    None where an axis is widened: each entry then stands in several places.
    """
    kept = {new: parts for parts, new, n in zip(layout, to, old, strict=True) if n == shape[new]}
    if any(n != 1 and axis not in kept for axis, n in enumerate(shape)):
        return None
    return tuple(kept.get(axis, ()) for axis in range(len(shape)))


def arrange(x: jax.Array, layout: Layout, axes: Sequence[Axis]) -> jax.Array:
    """Return `x` with one axis for each of those named, in that order; parts of other axes are summed over.

    Axes of `x` are full or 1 (the same value for each index). There may be more of them than in the layout: those come
    last and stay. Named axes without parts have size 1.

    Examples:
      >>> import jax.numpy as jnp
      >>> arrange(jnp.ones((5, 2, 3)), regroup(whole((5, 6)), (5, 2, 3)), [1, 0]).shape
      (6, 5)
    """
    parts: list[Part] = []
    split: list[int] = []
    for n, axis in zip(x.shape, layout):  # the axes beyond the layout are not split
        parts += axis
        split += [part.size if n != 1 else 1 for part in axis]
    extra = x.shape[len(layout) :]
    x = x.reshape(*split, *extra)
    x = jnp.sum(x, [i for i, part in enumerate(parts) if part.axis not in axes])
    parts = [part for part in parts if part.axis in axes]
    order = sorted(range(len(parts)), key=lambda i: (axes.index(parts[i].axis), -parts[i].stride))
    x = x.transpose(*order, *range(len(parts), x.ndim))
    full: list[int] = []
    sizes: list[int] = []
    at = 0
    for name in axes:
        own = [part.size for part in parts if part.axis == name]
        varies = any(n != 1 for n in x.shape[at : at + len(own)])
        full += own if varies else [1] * len(own)
        sizes.append(math.prod(own) if varies else 1)
        at += len(own)
    return jnp.broadcast_to(x, (*full, *extra)).reshape(*sizes, *extra)
