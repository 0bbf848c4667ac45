"""The number of units that each group of a scope keeps at a density."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from jaxticket.scopes import Scope
from jaxticket.selection import _counting
from jaxticket.selection._counting import Count
from jaxticket.typing import Density


def group_counts(density: Density, units_like: Any, scope: Scope, *, floor: int) -> list[Count]:
    """Return the number of units that each group keeps. `density` is a scalar if all leaves compete, else a tree."""
    shapes = [u.shape for u in present(units_like)]
    if scope.joint:
        return [_count(density, sum(math.prod(s) for s in shapes), floor)]
    densities = present(density)
    views = [jax.eval_shape(scope.view, jax.ShapeDtypeStruct(s, jnp.bool_)).shape for s in shapes]
    sizes = [_group_sizes(v, scope, s) for v, s in zip(views, shapes, strict=True)]
    if all(len(scope.axes(s)) == len(v) for v, s in zip(views, shapes, strict=True)):
        digits = _counting.digits_for(max(int(n.max(initial=0)) for n in sizes))
        counts = [_count(d, int(n.max(initial=0)), floor, digits) for d, n in zip(densities, sizes, strict=True)]
        return [tuple(jnp.stack(digit) for digit in zip(*counts, strict=True))]
    return [_count(d, n, floor) for d, n in zip(densities, sizes, strict=True)]


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


def _count(density: Any, size: int | np.ndarray, floor: int, digits: int | None = None) -> Count:
    """Return round-half-even(density · size), within [floor where density > 0, size]; exact in float64 for Python
    floats.
    """
    digits = _counting.digits_for(int(np.max(size, initial=0))) if digits is None else digits
    if not isinstance(density, jax.Array):
        exact = np.clip(np.rint(float(density) * np.asarray(size, np.float64)), 0, size)
        return _counting.of_int(np.maximum(exact, floor if density > 0 else 0), digits)
    density = density.astype(jnp.float32)
    rounded = jnp.maximum(jnp.round(density * jnp.asarray(size, jnp.float32)), 0)
    positive = jax.lax.bitcast_convert_type(density, jnp.int32) > 0  # a comparison may flush a denormal to 0
    rounded = jnp.where(positive, jnp.maximum(rounded, floor), rounded)
    most = _counting.of_int(size, digits)
    count = _counting.minimum(_counting.of_float(rounded, digits), most)
    # float32 cannot hold every size, and density 1 must keep everything.
    return _counting.choose(density >= 1, most, count)


def present(tree: Any) -> list[Any]:
    return [x for x in _tree.leaves(tree) if x is not None]
