"""SNFS: dynamic sparse training that moves weights between leaves."""

from jaxticket import filters, schedules, scopes, scores, units
from jaxticket.allocate import uniform
from jaxticket.transforms._averaged import average_gradients
from jaxticket.transforms._base import Plan, chain
from jaxticket.transforms._dynamic import fall_to_last, random_start
from jaxticket.transforms._evolve import redistribute
from jaxticket.transforms._lengths import derive
from jaxticket.transforms._start import Allocate, separate
from jaxticket.typing import Density, Filter, Stacked
from jaxticket.units import Unit


def snfs(
    density: Density,
    *,
    steps: int | None = None,
    stop: int | None = None,
    every: int | None = None,
    drop_fraction: float = 0.5,
    decay: float = 0.9,
    allocate: Allocate | None = uniform,
    unit: Unit = units.element(),
    where: Filter = filters.weights(),
    stacked: Stacked | None = None,
) -> Plan:
    """Drop the smallest weights and grow by momentum, also across leaves (SNFS; Dettmers & Zettlemoyer, 2019).

    The places of dropped weights are shared among the leaves by their mean momentum, and grown where the momentum of
    dead weights is largest. Momentum is a running average of dense gradients
    (`transforms.average_gradients`). The drop fraction falls by a cosine to 0.005 at `stop`. Needs
    `sparsify(..., key=)` for its random start.

    Here the optimizer sees masked gradients, and newborn weights have no momentum. In the authors' code the optimizer's
    momentum is never masked, so that a newborn weight starts with the average that selected it. After ten gradients of
    1 its first step is then 6.9 times the rate, and here it is the rate.

    Args:
      density: the fraction kept, over all leaves together.
      steps: the length of the training, and the default of `stop`. Refreshes then come at every hundredth part of it.
      stop: the step after which the mask stays: the end of the training, as published.
      every: steps between refreshes; an epoch as published. Without `steps` it is 100.
      drop_fraction: the part of the mask that the first refresh replaces.
      decay: the decay of the running average per step.
      allocate: a function that shares the first density among leaves.
      unit: weights that live or die together.
      where: the leaves that are sparsified.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      The plan.

    Raises:
      InputError: neither `steps` nor `stop`.

    Examples:
      >>> snfs(0.1, steps=1000).refresh.observe is None
      False
    """
    unit, scope, allocate = separate(stacked, unit, scopes.leaf(), allocate)
    stop, every = derive(steps, 1.0, stop=stop), derive(steps, 0.01, otherwise=100, every=every)
    fraction = fall_to_last(drop_fraction, stop)
    evolve = average_gradients(redistribute(scores.magnitude, scores.gradient, fraction, unit=unit), decay=decay)
    first = random_start(density, allocate, unit, scope, where)
    return Plan(chain(first, evolve), schedules.every(every, start=every, stop=stop))
