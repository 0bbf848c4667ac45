"""The first mask of a plan."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters, scopes, units
from jaxticket._checks import check_fits
from jaxticket.errors import InputError
from jaxticket.scopes import Scope
from jaxticket.selection._floors import protect
from jaxticket.selection._select import select
from jaxticket.transforms._base import MaskTransform
from jaxticket.typing import Density, Filter, Key, Mask, Params, PyTree, ScoreFn
from jaxticket.units import Unit

Allocate = Callable[..., PyTree]  # (params, density, *, where) -> densities by leaf, as in jaxticket.allocate


def start(
    score: ScoreFn,
    density: Density,
    *,
    allocate: Allocate | None = None,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
    rounds: int = 1,
    revive: bool = False,
) -> MaskTransform:
    """Makes the first mask, unless `sparsify` was given one: the `density` best-scored units.

    In several rounds it is pruning at initialisation by steps: round i of T keeps density^(i/T), by scores of the
    network as it is masked so far. With `scores.synflow` that is SynFlow (Tanaka et al., 2020), with `scores.snip`
    iterative SNIP, and FORCE if pruned units may `revive` (de Jorge et al., 2021). One compiled loop under jit, one
    compiled round called from Python otherwise, however many rounds.

    Args:
      score: called without gradients. density: fraction kept, or a pytree of them; exactly so after the last round.
      allocate: how the density is shared among leaves (`allocate.erk`, …); None gives each leaf the same.
      where: which leaves are sparsified. rounds: how often units are scored and pruned, T.
      revive: choose among all units in each round; False chooses among the survivors, so that the masks nest.

    Raises InputError where `select` or the score does, or for rounds below 1.

    >>> import jax.numpy as jnp
    >>> from jaxticket import scores
    >>> start(scores.magnitude, 0.5).init({"w": jnp.array([[1.0, 3.0]])}, None, key=None)[0]
    {'w': Array([[False,  True]], dtype=bool)}
    """
    if not isinstance(rounds, int) or rounds < 1:
        raise InputError(f"rounds={rounds!r} must be an int of 1 or more; SynFlow takes 100.")

    def init(params: Params, mask: Mask | None, *, key: Key | None) -> tuple[Mask, PyTree]:
        if mask is not None:
            return mask, ()
        densities = density if allocate is None else allocate(params, density, where=where)
        full = full_mask(params, where, unit)

        def pruned(mask: Mask, density: Density) -> Mask:
            candidates = full if revive else mask
            return best(score, params, density, unit=unit, scope=scope, mask=mask, candidates=candidates, key=key)

        def prune_by_step(i: jax.Array, mask: Mask) -> Mask:
            step = (i + 1) / rounds
            return pruned(mask, _tree.map_present(lambda d: jnp.asarray(d, jnp.float32) ** step, densities))

        mask = full
        if rounds > 1 and any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((params, densities, key))):
            mask = jax.lax.fori_loop(0, rounds - 1, prune_by_step, mask)
        else:  # the same compiled scores and selection each time: on CPU, convolutions in a compiled loop crawl
            for i in range(rounds - 1):
                mask = prune_by_step(jnp.int32(i), mask)
        # The last round stands by itself: only a density that is a Python float is exact for leaves of any size.
        return pruned(mask, densities), ()

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
    candidates: Mask | None = None,
    minimum: int = 0,
    **signals: Any,
) -> Mask:
    """The mask of the best-scored units among the `candidates`, by default the survivors of `mask`.

    Units are scored under `mask`; leaves where it is None stay as they are.
    """
    candidates = mask if candidates is None else candidates
    check_fits(params, mask)
    scored = _tree.tree_map(lambda s, m: None if m is None else s, score(params, mask=mask, **signals), mask)
    unscored = _tree.tree_map(
        lambda s, m, name: name if s is None and m is not None else None, scored, mask, _tree.names(mask)
    )
    if jax.tree.leaves(unscored):
        raise InputError(f"the score gives nothing for {jax.tree.leaves(unscored)}; leave them out with where=.")
    scored = protect(scored, density, minimum=minimum, unit=unit, mask=candidates)
    return select(scored, density, unit=unit, scope=scope, mask=candidates)
