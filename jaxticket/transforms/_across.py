"""Published plans of dynamic sparse training that move weights between leaves: SNFS and GraNet."""

from jaxticket import filters, schedules, scopes, scores, units
from jaxticket._checks import check_fraction, known
from jaxticket.allocate import erk, uniform
from jaxticket.transforms._averaged import average_gradients
from jaxticket.transforms._base import Plan, chain
from jaxticket.transforms._dynamic import fall_to_last, random_start
from jaxticket.transforms._evolve import prune, redistribute, regrow
from jaxticket.transforms._lengths import derive
from jaxticket.transforms._start import Allocate
from jaxticket.typing import Density, Filter
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
) -> Plan:
    """Drop the smallest weights and grow by momentum, also across leaves (SNFS; Dettmers & Zettlemoyer, 2019).

    The places of dropped weights are shared among the leaves by their mean momentum, and grown where the momentum of
    dead weights is largest. Momentum is a running average of dense gradients
    (`transforms.average_gradients`). The drop fraction falls by a cosine to 0.005 at `stop`. Needs
    `sparsify(..., key=)` for its random start.

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

    Returns:
      The plan.

    Raises:
      InputError: neither `steps` nor `stop`.

    Examples:
      >>> snfs(0.1, steps=1000).refresh.observe is None
      False
    """
    stop, every = derive(steps, 1.0, stop=stop), derive(steps, 0.01, otherwise=100, every=every)
    fraction = fall_to_last(drop_fraction, stop)
    evolve = average_gradients(redistribute(scores.magnitude, scores.gradient, fraction, unit=unit), decay=decay)
    first = random_start(density, allocate, unit, scopes.leaf(), where)
    return Plan(chain(first, evolve), schedules.every(every, start=every, stop=stop))


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
) -> Plan:
    """Prune gradually over the whole tree, with regrowth in each leaf after it (GraNet; Liu et al., 2021).

    From a random mask of density `initial` a cubic descent reaches `density` exactly at step `stop`. Each refresh then
    drops a part of each leaf and grows as many weights where the gradient is largest, also after `stop`. That part
    falls by a cosine to 0.005 at `steps`. Needs `sparsify(..., key=)` unless `initial` is 1.

    Args:
      density: the final fraction kept, over all leaves together.
      steps: the length of the training.
      start: the step at which the descent starts.
      stop: the step at which it ends; by default after 11/16 of the training (110 of 160 epochs).
      every: steps between refreshes; by default there are 60 in the training.
      initial: the first density: 1 is dense to sparse, less is sparse to sparse.
      drop_fraction: the part of each leaf that the first refresh replaces.
      allocate: a function that shares the first density among leaves.
      unit: weights that live or die together.
      where: the leaves that are sparsified.

    Returns:
      The plan.

    Raises:
      InputError: a start after stop, or densities outside [0, 1].

    Examples:
      >>> bool(granet(0.1, steps=6000).when(5900))
      True
    """
    stop, every = derive(steps, 11 / 16, stop=stop), derive(steps, 1 / 60, every=every)
    target = schedules.cubic(density, start=start, stop=stop, initial=initial)
    fraction = fall_to_last(drop_fraction, steps)
    evolve = [
        prune(scores.magnitude, target, unit=unit, scope=scopes.tree(), where=where),
        regrow(scores.magnitude, scores.gradient, fraction, unit=unit),
    ]
    check_fraction("initial", initial)
    if known(initial) < 1:
        evolve.insert(0, random_start(initial, allocate, unit, scopes.leaf(), where))
    return Plan(chain(*evolve), schedules.either(schedules.every(every, start=start), schedules.at([stop])))
