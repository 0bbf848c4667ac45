"""Masks that come and go: phases of sparse and of dense training."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters, scopes, units
from jaxticket._check_trees import check_fits
from jaxticket.scopes import Scope
from jaxticket.transforms._base import MaskTransform
from jaxticket.transforms._start import best, full_mask
from jaxticket.typing import Density, Filter, Key, Mask, Params, Period, PyTree, ScoreFn
from jaxticket.units import Unit


def alternate(
    score: ScoreFn,
    density: Density,
    *,
    compress: Period,
    decompress: Period,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> MaskTransform:
    """Keep the best-scored units from a step of `compress` on, and everything from a step of `decompress` on.

    Phases begin dense. A mask is chosen among the units that are alive when it is due, and then stays. Pruned units
    come back as zeros (Peste et al., 2021). A plan's `when` must be due at both kinds of steps: `schedules.either`.

    Args:
      score: the importance of a weight.
      density: the fraction kept in sparse phases.
      compress: the steps at which sparse phases begin.
      decompress: the steps at which dense phases begin. Where both are due, the phase is dense.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified, if no mask was given.

    Returns:
      The mask transform.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import schedules, scores
      >>> t = alternate(scores.magnitude, 0.5, compress=schedules.at([2]), decompress=schedules.at([4]))
      >>> params = {"w": jnp.array([[1.0, 3.0]])}
      >>> mask, state = t.init(params, None, key=None)
      >>> t.update(mask, state, params=params, grads=None, count=2, key=None, aux=None)[0]
      {'w': Array([[False,  True]], dtype=bool)}
    """

    def init(params: Params, mask: Mask | None, *, key: Key | None) -> tuple[Mask, PyTree]:
        del key
        return full_mask(params, where, unit) if mask is None else mask, ()

    def update(mask: Mask, state: PyTree, *, params: Params, count: jax.Array, **signals: Any) -> tuple[Mask, PyTree]:
        mask = check_fits(params, mask)
        sparse = best(score, params, density, unit=unit, scope=scope, mask=mask, **signals)
        begins, ends = compress(count), decompress(count)
        return _tree.map_present(lambda old, new: ends | jnp.where(begins, new, old), mask, sparse), state

    return MaskTransform(init, update, unit=unit)
