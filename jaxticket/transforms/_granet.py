"""GraNet: gradual pruning with regrowth after each pruning, over the whole tree or in each leaf."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters, schedules, scopes, scores, units
from jaxticket._checks import known
from jaxticket.allocate import erk, uniform
from jaxticket.scopes import Scope
from jaxticket.transforms._base import MaskTransform, Plan, chain
from jaxticket.transforms._dynamic import fall_to_last, random_start
from jaxticket.transforms._evolve import prune, prune_to, regrow
from jaxticket.transforms._lengths import derive
from jaxticket.transforms._start import Allocate, separate
from jaxticket.typing import Density, Filter, Mask, Params, PyTree, Schedule, Stacked
from jaxticket.units import Unit

_LAST_DENSITY = 0.2  # of the last layer in the uniform variant


def granet(
    density: Density,
    *,
    steps: int,
    start: int = 0,
    stop: int | None = None,
    every: int | None = None,
    initial: float = 0.5,
    drop_fraction: float = 0.5,
    allocate: Allocate | None = erk,
    unit: Unit = units.element(),
    where: Filter = filters.weights(),
    stacked: Stacked | None = None,
) -> Plan:
    """Prune gradually over the whole tree, with regrowth in each leaf after it (GraNet; Liu et al., 2021).

    From a random mask of density `initial` a cubic descent reaches `density` exactly at step `stop`. Each refresh then
    drops a part of each leaf and grows as many weights where the gradient is largest, also after `stop`. That part
    falls by a cosine to 0.005 at `steps`. A weight that the descent prunes and the gradient brings back at once is
    newborn. Needs `sparsify(..., key=)` unless `initial` is 1.

    The authors' code keeps one weight less at each pruning and leaves out the last, so that it does not reach
    `density`. It refreshes after the update of a step, and here the refresh comes before that of the next one.

    Args:
      density: the final fraction kept, over all leaves together.
      steps: the length of the training.
      start: the step at which the descent starts. Nothing is due at step 0.
      stop: the step at which it ends; by default after 11/16 of the training (110 of 160 epochs).
      every: steps between refreshes; by default there are 60 in the training.
      initial: the first density: 1 is dense to sparse, less is sparse to sparse.
      drop_fraction: the part of each leaf that the first refresh replaces.
      allocate: a function that shares the first density among leaves.
      unit: weights that live or die together.
      where: the leaves that are sparsified.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      The plan.

    Raises:
      InputError: a start after stop, or densities outside [0, 1].

    Examples:
      >>> bool(granet(0.1, steps=6000).when(5900))
      True
    """
    unit, scope, allocate = separate(stacked, unit, scopes.leaf(), allocate)
    prune_first = lambda target: prune(scores.magnitude, target, unit=unit, scope=scopes.tree(), where=where)
    return _granet(
        prune_first, density, steps=steps, start=start, stop=stop, every=every, initial=initial,
        drop_fraction=drop_fraction, allocate=allocate, unit=unit, scope=scope, where=where,
    )  # fmt: skip


def granet_uniform(
    density: Density,
    *,
    steps: int,
    last: str | None = None,
    start: int = 0,
    stop: int | None = None,
    every: int | None = None,
    initial: float = 0.5,
    drop_fraction: float = 0.5,
    allocate: Allocate | None = uniform,
    unit: Unit = units.element(),
    where: Filter = filters.weights(),
    stacked: Stacked | None = None,
) -> Plan:
    """Prune each leaf gradually to the same density, with regrowth after it ("GraNet_uniform" of Liu et al.'s code).

    It is `granet` with leaves that do not compete. Once the density is 0.2 or less, the `last` layer stays at 0.2, and
    the others share what remains.

    Args:
      density: the final fraction kept, over all leaves together.
      steps: the length of the training.
      last: the regex of the last layer's path; None holds no layer.
      start: the step at which the descent starts. Nothing is due at step 0.
      stop: the step at which it ends; by default after 11/16 of the training.
      every: steps between refreshes; by default there are 60 in the training.
      initial: the first density: 1 is dense to sparse, less is sparse to sparse.
      drop_fraction: the part of each leaf that the first refresh replaces.
      allocate: a function that shares the first density among leaves.
      unit: weights that live or die together.
      where: the leaves that are sparsified.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      The plan.

    Raises:
      InputError: a start after stop, or densities outside [0, 1].
      NoMatchError: at a refresh, a regex without a leaf.

    Examples:
      >>> bool(granet_uniform(0.1, steps=6000, last="^output/").when(5900))
      True
    """
    unit, scope, allocate = separate(stacked, unit, scopes.leaf(), allocate)

    def prune_first(target: Schedule) -> MaskTransform:
        shared = lambda params, mask, count: _hold_last(mask, params, target(count), last)
        return prune_to(scores.magnitude, shared, unit=unit, scope=scope, where=where)

    return _granet(
        prune_first, density, steps=steps, start=start, stop=stop, every=every, initial=initial,
        drop_fraction=drop_fraction, allocate=allocate, unit=unit, scope=scope, where=where,
    )  # fmt: skip


def _granet(
    prune_first: Callable[[Schedule], MaskTransform],
    density: Density,
    *,
    steps: int,
    start: int,
    stop: int | None,
    every: int | None,
    initial: float,
    drop_fraction: float,
    allocate: Allocate | None,
    unit: Unit,
    scope: Scope,
    where: Filter,
) -> Plan:
    stop, every = derive(steps, 11 / 16, stop=stop), derive(steps, 1 / 60, every=every)
    target = schedules.cubic(density, start=start, stop=stop, initial=initial)
    fraction = fall_to_last(drop_fraction, steps)
    grow = regrow(scores.magnitude, scores.gradient, fraction, rounding="up", unit=unit, scope=scope)
    evolve = [prune_first(target), grow]
    if known(initial) < 1:
        evolve.insert(0, random_start(initial, allocate, unit, scope, where))
    return Plan(chain(*evolve), schedules.either(schedules.every(every, start=start or every), schedules.at([stop])))


def _hold_last(mask: Mask, params: Params, density: Density, last: str | None) -> PyTree:
    """Return `density` for each leaf; where it is 0.2 or less, 0.2 for the last one, for which the others make up."""
    if last is None:
        return _tree.map_present(lambda m: density, mask)
    held = _tree.resolve({last: True}, mask, default=False)
    sizes = _tree.tree_map(lambda m, p: None if m is None else p.size, mask, params)
    total = sum(jax.tree.leaves(sizes))
    kept = sum(jax.tree.leaves(_tree.map_present(lambda n, h: n * h, sizes, held)))
    rest = jnp.clip((total * density - _LAST_DENSITY * kept) / max(total - kept, 1), 0, 1)
    return _tree.map_present(
        lambda m, h: jnp.where(density <= _LAST_DENSITY, _LAST_DENSITY if h else rest, density), mask, held
    )
