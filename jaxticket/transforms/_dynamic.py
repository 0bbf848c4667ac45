"""Published plans of dynamic sparse training, by name: recombinations of start, prune, regrow and redistribute."""

from jaxticket import filters, schedules, scopes, scores, units
from jaxticket._checks import check_fraction, known
from jaxticket.allocate import erk, uniform
from jaxticket.scopes import Scope
from jaxticket.transforms import _start
from jaxticket.transforms._averaged import averaged
from jaxticket.transforms._base import MaskTransform, Plan, chain
from jaxticket.transforms._evolve import prune, redistribute, regrow
from jaxticket.transforms._lengths import derive
from jaxticket.transforms._start import Allocate
from jaxticket.typing import Density, Filter, Schedule, ScoreFn
from jaxticket.units import Unit

_LAST_FRACTION = 0.005  # to which the drop fractions of SNFS, ITOP and GraNet fall


def sparse_evolutionary(
    density: Density,
    *,
    steps: int | None = None,
    stop: int | None = None,
    every: int | None = None,
    drop_fraction: float | Schedule = 0.3,
    allocate: Allocate | None = erk,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Plan:
    """Drop the smallest weights and grow at random (SET; Mocanu et al., 2018). Needs `sparsify(..., key=)`.

    Args:
      density: the fraction kept.
      steps: the length of the training. Refreshes then come at every hundredth part of it and stop after three
        quarters, as in the comparison of Evci et al. (2020).
      stop: the step after which the mask stays. Without `steps` refreshes never stop.
      every: steps between refreshes. Without `steps` it is 100.
      drop_fraction: the part of the mask that a refresh replaces, or a schedule of it.
      allocate: a function that shares the density among leaves; None gives each leaf the same.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.

    Returns:
      The plan.

    Examples:
      >>> bool(sparse_evolutionary(0.1, steps=1000).when(740))
      True
    """
    stop = stop if steps is None else derive(steps, 0.75, stop=stop)
    every = derive(steps, 0.01, otherwise=100, every=every)
    first = _random_start(density, allocate, unit, scope, where)
    evolve = regrow(scores.magnitude, scores.random, drop_fraction, unit=unit, scope=scope)
    return Plan(chain(first, evolve), schedules.every(every, stop=stop))


def rigl(
    density: Density,
    *,
    steps: int | None = None,
    stop: int | None = None,
    every: int | None = None,
    drop_fraction: float = 0.3,
    allocate: Allocate | None = erk,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Plan:
    """Drop the smallest weights and grow where the dense gradient is largest (RigL; Evci et al., 2020).

    The drop fraction falls by a cosine from `drop_fraction` to 0 at `stop`. Needs `sparsify(..., key=)` for its random
    start.

    Args:
      density: the fraction kept.
      steps: the length of the training. Refreshes then come at every hundredth part of it and stop after three
        quarters (published for ImageNet: every 100 steps until 25,000 of 32,000).
      stop: the step after which the mask stays.
      every: steps between refreshes. Without `steps` it is 100.
      drop_fraction: the part of the mask that the first refresh replaces.
      allocate: a function that shares the density among leaves; None gives each leaf the same.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.

    Returns:
      The plan.

    Raises:
      InputError: neither `steps` nor `stop`.

    Examples:
      >>> bool(rigl(0.1, steps=1000).when(740)), bool(rigl(0.1, steps=1000).when(760))
      (True, False)
    """
    stop, every = derive(steps, 0.75, stop=stop), derive(steps, 0.01, otherwise=100, every=every)
    first = _random_start(density, allocate, unit, scope, where)
    fraction = schedules.cosine(drop_fraction, stop=stop)
    evolve = regrow(scores.magnitude, scores.gradient, fraction, unit=unit, scope=scope)
    return Plan(chain(first, evolve), schedules.every(every, stop=stop))


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
    dead weights is largest. Momentum is a running average of dense gradients (`transforms.averaged`). The drop fraction
    falls by a cosine to 0.005 at `stop`. Needs `sparsify(..., key=)` for its random start.

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
    fraction = _to_last(drop_fraction, stop)
    evolve = averaged(redistribute(scores.magnitude, scores.gradient, fraction, unit=unit), decay=decay)
    first = _random_start(density, allocate, unit, scopes.leaf(), where)
    return Plan(chain(first, evolve), schedules.every(every, start=every, stop=stop))


def itop(
    density: Density,
    *,
    steps: int,
    every: int | None = None,
    grow: ScoreFn = scores.random,
    drop_fraction: float = 0.5,
    allocate: Allocate | None = erk,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Plan:
    """Refresh rarely and much over the whole training, so that many weights are tried (ITOP; Liu et al., 2021).

    The drop fraction falls by a cosine to 0.005 at `steps`, and refreshes never stop. The part of the weights that was
    ever alive is the in-time over-parametrisation rate (`transforms.exploring`). Needs `sparsify(..., key=)`.

    Args:
      density: the fraction kept.
      steps: the length of the training.
      every: steps between refreshes; by default there are 65 in the training, as in 250 epochs on CIFAR.
      grow: the score by which weights grow: `scores.random` as in SET, or `scores.gradient` as in RigL.
      drop_fraction: the part of the mask that the first refresh replaces.
      allocate: a function that shares the density among leaves; None gives each leaf the same.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.

    Returns:
      The plan.

    Examples:
      >>> bool(itop(0.1, steps=65_000).when(3000))
      True
    """
    every = derive(steps, 1 / 65, every=every)
    fraction = _to_last(drop_fraction, steps)
    first = _random_start(density, allocate, unit, scope, where)
    evolve = regrow(scores.magnitude, grow, fraction, unit=unit, scope=scope)
    return Plan(chain(first, evolve), schedules.every(every, start=every))


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
    fraction = _to_last(drop_fraction, steps)
    evolve = [
        prune(scores.magnitude, target, unit=unit, scope=scopes.tree(), where=where),
        regrow(scores.magnitude, scores.gradient, fraction, unit=unit),
    ]
    check_fraction("initial", initial)
    if known(initial) < 1:
        evolve.insert(0, _random_start(initial, allocate, unit, scopes.leaf(), where))
    return Plan(chain(*evolve), schedules.either(schedules.every(every, start=start), schedules.at([stop])))


def mest(
    density: Density,
    *,
    steps: int | None = None,
    stop: int | None = None,
    every: int | None = None,
    gradient_weight: float = 0.01,
    drop_fraction: float = 0.3,
    allocate: Allocate | None = uniform,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Plan:
    """Drop where |w| + λ |g| is smallest and grow at random (MEST; Yuan et al., 2021).

    The drop fraction (elastic mutation) falls by a straight line to 0 at `stop`. Needs `sparsify(..., key=)`.

    Args:
      density: the fraction kept.
      steps: the length of the training. Refreshes then come at every 32nd part of it and stop after three quarters.
      stop: the step after which the mask stays.
      every: steps between refreshes. Without `steps` it is 100.
      gradient_weight: λ.
      drop_fraction: the part of the mask that the first refresh replaces.
      allocate: a function that shares the density among leaves; None gives each leaf the same.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.

    Returns:
      The plan.

    Raises:
      InputError: neither `steps` nor `stop`.

    Examples:
      >>> bool(mest(0.1, steps=3200).when(100))
      True
    """
    stop, every = derive(steps, 0.75, stop=stop), derive(steps, 1 / 32, otherwise=100, every=every)
    keep = scores.weighted_sum((scores.magnitude, 1.0), (scores.gradient, gradient_weight))
    evolve = regrow(keep, scores.random, schedules.power(drop_fraction, stop=stop), unit=unit, scope=scope)
    return Plan(
        chain(_random_start(density, allocate, unit, scope, where), evolve),
        schedules.every(every, start=every, stop=stop),
    )


def _to_last(drop_fraction: float, stop: int) -> Schedule:
    """Return the schedule that falls by a cosine to 0.005, or stays where it begins below."""
    check_fraction("drop_fraction", drop_fraction)
    return schedules.cosine(drop_fraction, stop=stop, final=min(_LAST_FRACTION, known(drop_fraction)))


def _random_start(
    density: Density, allocate: Allocate | None, unit: Unit, scope: Scope, where: Filter
) -> MaskTransform:
    if allocate is not None and scope.joint:
        allocate = None  # one pool of units has no densities by leaf
    return _start.start(scores.random, density, allocate=allocate, unit=unit, scope=scope, where=where)
