"""MEST: an exchange in stages, without dense gradients, and with a soft bound on the number of weights."""

import jax
import jax.numpy as jnp

from jaxticket import _tree, filters, schedules, scopes, scores, units
from jaxticket._checks import check_number
from jaxticket.allocate import uniform
from jaxticket.errors import InputError
from jaxticket.scopes import Scope
from jaxticket.transforms import _start
from jaxticket.transforms._base import Plan, chain
from jaxticket.transforms._evolve import grow_to, prune_to
from jaxticket.transforms._lengths import derive
from jaxticket.transforms._start import Allocate, separate
from jaxticket.typing import Density, Filter, Mask, Params, Schedule, Stacked
from jaxticket.units import Unit


def mest(
    density: Density,
    *,
    steps: int | None = None,
    stop: int | None = None,
    every: int | None = None,
    drop_fraction: float | Schedule = 0.2,
    excess: float | Schedule = 0.0,
    gradient_weight: float = 0.0,
    allocate: Allocate | None = uniform,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
    stacked: Stacked | None = None,
) -> Plan:
    """Drop the smallest weights and grow at random, in stages of less and less exchange (MEST; Yuan et al., 2021).

    The first mask keeps the largest weights of each leaf. A refresh prunes to a lower density and grows at random to an
    upper one. A weight that it drops and grows again is newborn. It takes two forms:

    - EM, elastic mutation, is the default: a fifth of the living weights is exchanged at each refresh, a tenth from
      3/4 of `stop` on, and nothing from `stop` on.
    - EM&S, with a soft memory bound, is `drop_fraction=0, excess=0.5`: the mask grows half as large again as the
      density, and is pruned back to it a period later. The excess halves at 3/4 of `stop`, and at `stop` it is 0.

    No leaf drops more weights than are dead in it. Needs `sparsify(..., key=)`.

    Newborn weights rest in the step that grows them; in the authors' code a refresh comes before the first batch of an
    epoch, which moves them. There, counts may differ by one, and newborn weights keep the momentum of an earlier life:
    `plan._replace(newborn="keep")`.

    Args:
      density: the fraction kept: in EM by all masks, in EM&S by the mask from `stop` on.
      steps: the length of the training. Refreshes are then due at step 0 and every 32nd part of it (5 of 160 epochs),
        and stop after three quarters.
      stop: the step of the last refresh, at which the exchange ends.
      every: steps between refreshes. Without `steps` it is 100.
      drop_fraction: the part of the living weights that a refresh of the first stage exchanges, or a schedule of it.
      excess: the weights that a refresh of the first stage grows beyond the density, as a part of it, or a schedule.
        Published: 0.5 at density 0.1 and 1 at 0.05.
      gradient_weight: λ of the score |w| + λ |g|. It is 0 in the authors' code; the value of the paper is not known.
      allocate: a function that shares the density among leaves; None gives each leaf the same.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      The plan.

    Raises:
      InputError: neither `steps` nor `stop`, a drop fraction outside [0, 1] or a negative excess.

    Examples:
      >>> plan = mest(0.1, steps=3200)
      >>> [t for t in range(500) if plan.when(t)]
      [0, 100, 200, 300, 400]
    """
    unit, scope, allocate = separate(stacked, unit, scope, allocate)
    stop, every = derive(steps, 0.75, stop=stop), derive(steps, 1 / 32, otherwise=100, every=every)
    stages = [round(0.75 * stop), stop]
    exchanged = drop_fraction if callable(drop_fraction) else schedules.staircase(drop_fraction, steps=stages)
    extra = excess if callable(excess) else _stages_of(excess, stages)
    allocate = None if scope.joint else allocate  # one pool of units has no densities by leaf
    check_number(gradient_weight=gradient_weight)
    keep = scores.magnitude
    if gradient_weight:
        keep = scores.weighted_sum((scores.magnitude, 1.0), (scores.gradient, gradient_weight))

    def shared(params: Params, mask: Mask) -> Density:
        if allocate is None:
            return density
        return allocate(params, density, where=lambda _: _tree.tree_map(lambda m: m is not None, mask))

    def lower(params: Params, mask: Mask, count: jax.Array) -> Density:
        part = exchanged(count)
        return _tree.map_present(lambda d: d - jnp.minimum(part * d, 1 - d), shared(params, mask))

    def upper(params: Params, mask: Mask, count: jax.Array) -> Density:
        part = extra(count)
        return _tree.map_present(lambda d: jnp.minimum(d * (1 + part), 1), shared(params, mask))

    refresh = chain(
        _start.start(scores.magnitude, density, allocate=allocate, unit=unit, scope=scope, where=where),
        prune_to(keep, lower, unit=unit, scope=scope, where=where),
        grow_to(scores.random, upper, unit=unit, scope=scope),
    )
    return Plan(refresh, schedules.either(schedules.every(every, stop=stop), schedules.at(stages)))


def _stages_of(excess: float, stages: list[int]) -> Schedule:
    check_number(excess=excess)
    if not excess >= 0:
        raise InputError(f"excess={excess} must not be negative; it is a part of the density, such as 0.5.")
    halves = schedules.staircase(1.0, steps=stages)
    return lambda count: excess * halves(count)
