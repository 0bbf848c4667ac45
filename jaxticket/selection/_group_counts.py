"""The number of units that each group of a scope keeps at a density."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxticket import _tree
from jaxticket.errors import InputError
from jaxticket.scopes import Scope
from jaxticket.scopes._by_slice import OfLeaf
from jaxticket.selection import _counting
from jaxticket.selection._counting import Count
from jaxticket.typing import Density


def group_counts(density: Density, units_like: Any, scope: Scope, *, floor: int) -> list[Count]:
    """Return the number of units that each group keeps. `density` is a scalar if all leaves compete, else a tree."""
    shapes = [u.shape for u in present(units_like)]
    if scope.joint:
        return [_count(density, sum(math.prod(s) for s in shapes), floor)]
    densities, leaf_scopes = present(density), present(scope.bind(units_like))
    leaves = [jax.ShapeDtypeStruct(s, jnp.bool_) for s in shapes]
    # All at once: a view by itself would be traced for each leaf.
    viewed = jax.eval_shape(lambda xs: [own.view(x) for own, x in zip(leaf_scopes, xs, strict=True)], leaves)
    views = [v.shape for v in viewed]
    sizes = [_group_sizes(v, own, s) for v, own, s in zip(views, leaf_scopes, shapes, strict=True)]
    by_group = [
        own.spread(d, len(v)) if isinstance(own, OfLeaf) and np.ndim(d) else d
        for d, v, own in zip(densities, views, leaf_scopes, strict=True)
    ]
    return [_count(d, n, floor) for d, n in zip(by_group, sizes, strict=True)]


def per_unit(density: Density, units_like: Any) -> Density:
    """Return a density for each leaf of units. Units that span leaves take a number, which all of them share."""
    densities = present(density)
    if _tree.structure(density) == _tree.structure(units_like):
        return density
    if any(d is not densities[0] for d in densities):
        raise InputError("density is a tree, but the unit spans leaves; pass a number, and allocate=None to a plan")
    return _tree.map_present(lambda _: densities[0], units_like)


def _group_sizes(view: tuple[int, ...], scope: Scope, shape: tuple[int, ...]) -> np.ndarray:
    """Return the entries of each group of a leaf, with the competing axes at size 1 (a last group may be smaller)."""
    competing = scope.axes(shape)
    sizes = np.full([1 if a in competing else n for a, n in enumerate(view)], math.prod(view[a] for a in competing))
    padded = math.prod(view) - math.prod(shape)
    if padded:
        (axis,) = competing
        last = [slice(None)] * len(view)
        last[axis - 1] = slice(-1, None)
        sizes[tuple(last)] -= padded * view[axis - 1] // (math.prod(view) // view[axis])
    return sizes


def _count(density: Any, size: int | np.ndarray, floor: int) -> Count:
    """Return round-half-even(density · size), within [floor where density > 0, size]; exact in float64 for Python
    floats, and for arrays of densities that numpy holds.
    """
    digits = _counting.digits_for(int(np.max(size, initial=0)))
    if not isinstance(density, jax.Array):
        exact = np.clip(np.rint(np.asarray(density, np.float64) * np.asarray(size, np.float64)), 0, size)
        return _counting.of_int(np.maximum(exact, np.where(np.asarray(density) > 0, floor, 0)), digits)
    sizes = (np.asarray(size, np.float32), _counting.of_int(size, digits))
    # Behind the barrier leaves of one group each do the same with other numbers, and XLA compiles that once.
    return _round(density, *(lax.optimization_barrier(sizes) if np.size(size) == 1 else sizes), floor=floor)


@functools.partial(jax.jit, static_argnames="floor")
def _round(density: jax.Array, size: jax.Array, most: Count, *, floor: int) -> Count:
    density = density.astype(jnp.float32)
    rounded = jnp.maximum(jnp.round(density * size), 0)
    positive = lax.bitcast_convert_type(density, jnp.int32) > 0  # a comparison may flush a denormal to 0
    rounded = jnp.where(positive, jnp.maximum(rounded, floor), rounded)
    count = _counting.minimum(_counting.of_float(rounded, len(most)), most)
    # float32 cannot hold every size, and density 1 must keep everything.
    return _counting.choose(density >= 1, most, count)


def present(tree: Any) -> list[Any]:
    return [x for x in _tree.leaves(tree) if x is not None]
