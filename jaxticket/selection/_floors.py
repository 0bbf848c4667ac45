"""Floors against layer collapse: units that each leaf keeps whatever the others do."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from jaxticket._dtypes import wide
from jaxticket.errors import InputError
from jaxticket.scopes import Scope
from jaxticket.scopes._by_slice import stack_of, within_leaves
from jaxticket.selection import _keys
from jaxticket.selection._select import select
from jaxticket.typing import Density, Mask, Scores
from jaxticket.units import Unit


def protect(scores: Scores, density: Density, *, minimum: int, unit: Unit, scope: Scope, mask: Mask) -> Scores:
    """Return scores in which the best `minimum` units of each leaf rank above all others (Gupta et al., 2022, Global
    MP).

    A layer of a leaf that stacks several, by the scope, counts as a leaf. Leaves of fewer units are protected whole.
    Selecting from them over `scopes.tree()` keeps the total exact: the rest of the places is filled up globally. Raises
    InputError where the density is known and the minima exceed it.
    """
    if not minimum:
        return scores
    pooled = jax.eval_shape(unit.pool, scores)
    sizes = _tree.map_present(lambda layer: layer.size, stack_of(scope).slices(pooled))
    floors = _tree.map_present(lambda n: min(minimum, n), sizes)
    if not isinstance(density, jax.core.Tracer):
        held = _tree.map_present(lambda k, n, units: k * units.size // n if n else 0, floors, sizes, pooled)
        total = sum(units.size for units in jax.tree.leaves(pooled))
        needed, budget = sum(jax.tree.leaves(held)), int(np.rint(density * total))
        if needed > budget:
            raise InputError(
                f"minimum={minimum} needs {needed} units, more than the {budget} of density={density}; lower the "
                "minimum or raise the density"
            )
    fractions = _tree.map_present(lambda k, n: k / n if n else 0.0, floors, sizes)
    floor = select(scores, fractions, unit=unit, scope=within_leaves(scope), mask=mask)
    return _tree.map_present(_raise_above, scores, floor)


def _raise_above(s: jax.Array, kept: jax.Array) -> jax.Array:
    """Return scores, in a dtype that has room above them, of which the kept ones are the highest."""
    if jnp.issubdtype(s.dtype, jnp.floating):
        return jnp.where(kept, jnp.inf, wide(s))  # not all of fp8 has inf
    s = s.astype(_keys.common_dtype([s]))
    top = jnp.iinfo(s.dtype).max
    return jnp.where(kept, top, jnp.minimum(s, top - 1))  # as floats, integers above 2^24 would lose their order
