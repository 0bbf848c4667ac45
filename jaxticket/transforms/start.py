"""The first mask of a plan."""

from collections.abc import Callable
from typing import Any

import jax

from jaxticket import _tree, filters, scopes, units
from jaxticket.errors import InputError
from jaxticket.scopes import Scope
from jaxticket.selection.floors import protect
from jaxticket.selection.select import select
from jaxticket.transforms.base import MaskTransform
from jaxticket.typing import Density, Filter, Key, Mask, Params, PyTree, ScoreFn
from jaxticket.units import Unit

Allocate = Callable[..., PyTree]  # (params, density, *, where) -> densities by leaf, as in jaxticket.allocate


def start(
    score: ScoreFn,
    density: float,
    *,
    allocate: Allocate | None = None,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> MaskTransform:
    """Makes the first mask, unless `sparsify` was given one: the `density` best-scored units.

    Args:
      score: called without gradients. density: fraction kept.
      allocate: how the density is shared among leaves (`allocate.erk`, …); None gives each leaf the same.
      where: which leaves are sparsified.

    Raises InputError where `select` or the score does.

    >>> import jax.numpy as jnp
    >>> from jaxticket import scores
    >>> start(scores.magnitude, 0.5).init({"w": jnp.array([[1.0, 3.0]])}, None, key=None)[0]
    {'w': Array([[False,  True]], dtype=bool)}
    """

    def init(params: Params, mask: Mask | None, *, key: Key | None) -> tuple[Mask, PyTree]:
        if mask is not None:
            return mask, ()
        densities = density if allocate is None else allocate(params, density, where=where)
        full = full_mask(params, where, unit)
        return best(score, params, densities, unit=unit, scope=scope, mask=full, key=key), ()

    def update(mask: Mask, state: PyTree, **signals: Any) -> tuple[Mask, PyTree]:
        del signals
        return mask, state

    return MaskTransform(init, update)


def full_mask(params: Params, where: Filter, unit: Unit) -> Mask:
    """Everything kept, in the unit's own shape: a mask of channels is no larger than a channel mask."""
    full = filters.full_mask(params, where)
    return unit.expand(unit.pool_mask(full), full)


def best(
    score: ScoreFn,
    params: Params,
    density: Density,
    *,
    unit: Unit,
    scope: Scope,
    mask: Mask,
    minimum: int = 0,
    **signals: Any,
) -> Mask:
    """The mask of the best-scored units among the survivors of `mask`; leaves where it is None stay as they are."""
    scored = _tree.tree_map(lambda s, m: None if m is None else s, score(params, mask=mask, **signals), mask)
    unscored = _tree.tree_map(
        lambda s, m, name: name if s is None and m is not None else None, scored, mask, _tree.names(mask)
    )
    if jax.tree.leaves(unscored):
        raise InputError(f"the score gives nothing for {jax.tree.leaves(unscored)}; leave them out with where=.")
    scored = protect(scored, density, minimum=minimum, unit=unit, mask=mask)
    return select(scored, density, unit=unit, scope=scope, mask=mask)
