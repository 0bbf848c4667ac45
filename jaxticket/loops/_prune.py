"""The pruning of a level: a score, a unit and a scope make a `PruneFn`."""

import functools

import jax

from jaxticket import _tree, scopes, scores, units
from jaxticket._check_trees import check_fits
from jaxticket._checks import check_minimum
from jaxticket.errors import InputError
from jaxticket.loops._level import PruneFn
from jaxticket.scopes import Scope
from jaxticket.scopes._by_slice import separate
from jaxticket.selection._floors import protect
from jaxticket.selection._select import select
from jaxticket.typing import Density, Key, Mask, Params, ScoreFn, Scores, Stacked
from jaxticket.units import Unit


def prune_by(
    score: ScoreFn = scores.magnitude,
    *,
    unit: Unit = units.element(),
    scope: Scope = scopes.tree(),
    minimum: int = 0,
    stacked: Stacked | None = None,
) -> PruneFn:
    """Keep the highest scores among the survivors: global magnitude pruning by default (Frankle & Carbin, 2019).

    The returned function, (params, mask, density, *, key) -> mask, prunes the leaves where `mask` is not None;
    density counts all units of these leaves, not the survivors. It compiles once for all levels.

    Args:
      score: the importance of a weight; called with the parameters, the mask and the key.
      unit: weights that live or die together.
      scope: units that compete with each other. With scopes.leaf() a density may be a pytree.
      minimum: units that each leaf keeps in any case, if it has as many; the total is still exact. The
        "minimum threshold" of Global MP (Gupta et al., 2022), filled up globally. It needs scopes.tree().
      stacked: {regex of a path: axes} of leaves that stack layers or experts, each of which then counts as a leaf.

    Returns:
      The pruning function.

    Raises:
      InputError: a negative minimum or one without scopes.tree(); when pruning, minima that exceed the density.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> params = {"a": jnp.array([0.9, 0.8, 0.7, 0.6]), "b": jnp.array([0.1, 0.05])}
      >>> prune = prune_by(minimum=1)
      >>> prune(params, jax.tree.map(lambda p: jnp.ones_like(p, bool), params), 0.5, key=jax.random.key(0))
      {'a': Array([ True,  True, False, False], dtype=bool), 'b': Array([ True, False], dtype=bool)}
    """
    check_minimum(minimum, scope, unit)
    unit, scope = separate(stacked, unit, scope)

    def prune(params: Params, mask: Mask, density: Density, *, key: Key) -> Mask:
        mask = check_fits(params, mask)
        values = _tree.align(_score(params, mask, key, score=score), mask)
        unscored = [
            name
            for name, s, m in zip(*map(_tree.leaves, (_tree.names(mask), values, mask)), strict=True)
            if s is None and m is not None
        ]
        if unscored:
            raise InputError(f"the score gives no values for {unscored}; leave these leaves out of the mask (None).")
        values = protect(values, density, minimum=minimum, unit=unit, scope=scope, mask=mask)
        return select(values, density, unit=unit, scope=scope, mask=mask)

    return prune


@functools.partial(jax.jit, static_argnames="score")
def _score(params: Params, mask: Mask, key: Key, *, score: ScoreFn) -> Scores:
    return _tree.tree_map(lambda s, m: None if m is None else s, score(params, mask=mask, key=key), mask)
