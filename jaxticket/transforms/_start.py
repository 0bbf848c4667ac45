"""The first mask of a plan."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters, scopes, units
from jaxticket.errors import InputError
from jaxticket.scopes import Scope
from jaxticket.selection._floors import protect
from jaxticket.selection._select import select
from jaxticket.transforms._base import MaskTransform, keep_mask
from jaxticket.typing import Density, Filter, Key, Mask, Params, PyTree, ScoreFn, Stacked
from jaxticket.units import Unit

Spacing = Literal["exponential", "linear"]
Allocate = Callable[..., PyTree]  # (params, density, *, where[, stacked]) -> densities, as in jaxticket.allocate


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
    spacing: Spacing = "exponential",
) -> MaskTransform:
    """Make the first mask of the `density` best-scored units, unless `sparsify` was given a mask.

    In several rounds it prunes at initialisation step by step, by scores of the network under the mask so far. Round i
    of T keeps density^(i/T), in linear rounds 1 − (1 − density) i/T. With `scores.synflow` that is SynFlow (Tanaka et
    al., 2020), with `scores.snip` iterative SNIP, and FORCE if pruned units may `revive` (de Jorge et al., 2021). For
    any number of rounds it is one compiled loop under jit, and one compiled round called from Python otherwise. Scores
    get the number of the round as `round`. Counts are rounded, where the published codes truncate them.

    Args:
      score: the importance of a weight, called without gradients.
      density: the fraction kept, or a pytree of them; exactly so after the last round.
      allocate: a function that shares the density among leaves (`allocate.erk`, …); None gives each leaf the same.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.
      rounds: T, the number of times that units are scored and pruned.
      revive: whether each round chooses among all units. If not, it chooses among the survivors, so that the masks
        nest.
      spacing: "exponential", or "linear", which the authors of FORCE also offer.

    Returns:
      The mask transform.

    Raises:
      InputError: rounds below 1, or another spacing; when it starts, as `select` or the score.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import scores
      >>> start(scores.magnitude, 0.5).init({"w": jnp.array([[1.0, 3.0]])}, None, key=None)[0]
      {'w': Array([[False,  True]], dtype=bool)}
    """
    if not isinstance(rounds, int) or rounds < 1:
        raise InputError(f"rounds={rounds!r} must be an int of 1 or more; SynFlow takes 100.")
    if spacing not in ("exponential", "linear"):
        raise InputError(f"spacing={spacing!r} must be 'exponential' or 'linear'.")

    def init(params: Params, mask: Mask | None, *, key: Key | None) -> tuple[Mask, PyTree]:
        if mask is not None:
            return mask, ()
        densities = density if allocate is None else allocate(params, density, where=where)
        full = full_mask(params, where, unit)

        def prune_to(mask: Mask, density: Density, index: Any) -> Mask:
            among = {"mask": mask, "candidates": full if revive else mask}
            return best(score, params, density, unit=unit, scope=scope, key=key, round=index, **among)

        def prune_by_step(i: jax.Array, mask: Mask) -> Mask:
            step = (i + 1) / rounds
            due = lambda d: d**step if spacing == "exponential" else 1 - (1 - d) * step
            return prune_to(mask, _tree.map_present(lambda d: due(jnp.asarray(d, jnp.float32)), densities), i)

        mask = full
        if rounds > 1 and any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((params, densities, key))):
            mask = jax.lax.fori_loop(0, rounds - 1, prune_by_step, mask)
        else:  # the same compiled scores and selection each time: on CPU, compiled loops slow convolutions
            for i in range(rounds - 1):
                mask = prune_by_step(jnp.int32(i), mask)
        # The last round is separate, since only a density that is a Python float is exact for leaves of any size.
        return prune_to(mask, densities, rounds - 1), ()

    return MaskTransform(init, keep_mask, narrows=True, unit=unit)


def separate(
    stacked: Stacked | None, unit: Unit, scope: Scope, allocate: Allocate | None
) -> tuple[Unit, Scope, Allocate | None]:
    """Return the unit, the scope and the allocation in which each layer of a stacked leaf counts as a leaf."""
    if stacked is not None and allocate is not None:
        allocate = functools.partial(allocate, stacked=stacked)
    return units.by_slice(unit, stacked), scopes.by_slice(scope, stacked), allocate


def full_mask(params: Params, where: Filter, unit: Unit) -> Mask:
    """Return the mask that keeps everything, in the unit's own shape: for channels, no larger than a channel mask."""
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
    """Return the mask of the best-scored units among the `candidates`, by default the survivors of `mask`.

    Units are scored under `mask`; leaves where it is None stay as they are.
    """
    candidates = mask if candidates is None else candidates
    scored = _tree.tree_map(lambda s, m: None if m is None else s, score(params, mask=mask, **signals), mask)
    unscored = _tree.tree_map(
        lambda s, m, name: name if s is None and m is not None else None, scored, mask, _tree.names(mask)
    )
    if jax.tree.leaves(unscored):
        raise InputError(f"the score gives no values for {jax.tree.leaves(unscored)}; leave them out with where=.")
    scored = protect(scored, density, minimum=minimum, unit=unit, scope=scope, mask=candidates)
    return select(scored, density, unit=unit, scope=scope, mask=candidates)
