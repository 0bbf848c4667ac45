"""Published plans of dynamic sparse training with a fixed number of weights in each leaf: start and regrow."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxticket import filters, schedules, scopes, scores, units
from jaxticket._checks import check_fraction, known
from jaxticket.allocate import erk
from jaxticket.errors import InputError
from jaxticket.scopes import Scope
from jaxticket.transforms import _start
from jaxticket.transforms._base import MaskTransform, Plan, chain
from jaxticket.transforms._evolve import regrow, regrow_by_sign
from jaxticket.transforms._exploring import track_explored
from jaxticket.transforms._lengths import derive
from jaxticket.transforms._start import Allocate, separate
from jaxticket.typing import Density, Filter, Params, Schedule, ScoreFn, Stacked
from jaxticket.units import Unit

_LAST_FRACTION = 0.005  # to which the drop fractions of SNFS, ITOP and GraNet fall


def sparse_evolutionary(
    density: Density,
    *,
    steps: int | None = None,
    stop: int | None = None,
    every: int | None = None,
    drop_fraction: float | Schedule = 0.3,
    removal: Literal["magnitude", "sign"] = "magnitude",
    allocate: Allocate | None = erk,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
    stacked: Stacked | None = None,
) -> Plan:
    """Drop the smallest weights and grow at random (SET; Mocanu et al., 2018). Needs `sparsify(..., key=)`.

    The first refresh is due after one period. A weight that is dropped and grown at once keeps its value, as in the
    comparison of Evci et al. (2020), unless removal is by sign.

    Args:
      density: the fraction kept.
      steps: the length of the training. Refreshes then come at every hundredth part of it and stop after three
        quarters, as in the comparison of Evci et al. (2020).
      stop: the step after which the mask stays. Without `steps` refreshes never stop.
      every: steps between refreshes. Without `steps` it is 100.
      drop_fraction: the part of the mask that a refresh replaces, or a schedule of it.
      removal: "magnitude" drops the smallest weights, whatever their sign. "sign" drops this part of the positive and
        of the negative weights, rounded up, those closest to zero, and weights that are zero. All dropped weights
        then restart from zero, as in the code of Mocanu et al. (which drops one positive weight more where the
        part of them is a whole number, and restarts all moments). A dense leaf stays.
      allocate: a function that shares the density among leaves; None gives each leaf the same.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      The plan.

    Raises:
      InputError: another removal, or removal by sign of units that are not single weights.

    Examples:
      >>> bool(sparse_evolutionary(0.1, steps=1000).when(740))
      True
    """
    stop = stop if steps is None else derive(steps, 0.75, stop=stop)
    every = derive(steps, 0.01, otherwise=100, every=every)
    if removal not in ("magnitude", "sign"):
        raise InputError(f'removal={removal!r} must be "magnitude" or "sign".')
    if removal == "sign" and unit != units.element():
        raise InputError(f'unit={unit} has no sign; removal="sign" is for units.element().')
    unit, scope, allocate = separate(stacked, unit, scope, allocate)
    first = random_start(density, allocate, unit, scope, where)
    if removal == "sign":
        evolve = regrow_by_sign(scores.random, drop_fraction, scope=scope)
    else:
        evolve = regrow(scores.magnitude, scores.random, drop_fraction, unit=unit, scope=scope)
    return Plan(chain(first, evolve), schedules.every(every, start=every, stop=stop))


def rigl(
    density: Density,
    *,
    steps: int | None = None,
    start: int = 0,
    stop: int | None = None,
    every: int | None = None,
    drop_fraction: float | Schedule = 0.3,
    grow_init: Callable[..., Params] | None = None,
    allocate: Allocate | None = erk,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
    stacked: Stacked | None = None,
) -> Plan:
    """Drop the smallest weights and grow where the dense gradient is largest (RigL; Evci et al., 2020).

    A weight that is dropped and grown at once keeps its value. Needs `sparsify(..., key=)` for its random start.

    A refresh step is an ordinary step for the weights that stay, so that 1,000 calls are 1,000 updates and the learning
    rate's schedule ends. In the authors' code the weights rest at a refresh, and the count of steps with them. Their
    number of dropped weights is truncated, and here it is rounded: the two differ by one at most.
    Their cosine reads the count of all steps, and here it begins at `start`.

    Args:
      density: the fraction kept.
      steps: the length of the training. Refreshes then come at every hundredth part of it and stop after three
        quarters (published for ImageNet: every 100 steps until 25,000 of 32,000).
      start: the step of the first refresh.
      stop: the step after which the mask stays.
      every: steps between refreshes. Without `steps` it is 100.
      drop_fraction: the part of the mask that the first refresh replaces, which falls by a cosine to 0 at `stop`, or a
        schedule of this part: `schedules.fixed(0.3)`, `schedules.power(0.3, stop=750, exponent=3)`.
      grow_init: the values at which newborn weights start, as in `Plan`; None for zeros. The authors also tried
        gradients over a number (`lambda params, *, grads, key: ...`), their signs, and noise.
      allocate: a function that shares the density among leaves; None gives each leaf the same.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      The plan.

    Raises:
      InputError: neither `steps` nor `stop`, or a start that is not before `stop`.

    Examples:
      >>> bool(rigl(0.1, steps=1000).when(740)), bool(rigl(0.1, steps=1000).when(760))
      (True, False)
    """
    unit, scope, allocate = separate(stacked, unit, scope, allocate)
    stop, every = derive(steps, 0.75, stop=stop), derive(steps, 0.01, otherwise=100, every=every)
    when = schedules.every(every, start=start, stop=stop)
    fraction = drop_fraction if callable(drop_fraction) else _fall_from(start, drop_fraction, stop)
    first = random_start(density, allocate, unit, scope, where)
    evolve = regrow(scores.magnitude, scores.gradient, fraction, unit=unit, scope=scope)
    return Plan(chain(first, evolve), when, grow_init=grow_init)


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
    stacked: Stacked | None = None,
) -> Plan:
    """Refresh rarely and much over the whole training, so that many weights are tried (ITOP; Liu et al., 2021).

    The drop fraction falls by a cosine to 0.005 at `steps`, and refreshes never stop. The part of the weights that was
    ever alive is the in-time over-parametrisation rate (`transforms.track_explored`). A weight that is dropped and
    grown at once keeps its value. Needs `sparsify(..., key=)`.

    As in the authors' code, the number of dropped weights is rounded up, and a refresh comes after each period. As many
    grow, exactly; there the number of random ones varies, and its mean is the number of dropped ones.

    Args:
      density: the fraction kept.
      steps: the length of the training.
      every: steps between refreshes; by default there are 65 in the training, as in 250 epochs on CIFAR.
      grow: the score by which weights grow: `scores.random` as in SET, `scores.gradient` as in RigL, or
        `scores.unfired`, at random where no weight was before. With the last the plan tracks what it explored.
      drop_fraction: the part of the mask that the first refresh replaces.
      allocate: a function that shares the density among leaves; None gives each leaf the same.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      The plan.

    Examples:
      >>> bool(itop(0.1, steps=65_000).when(3000))
      True
    """
    unit, scope, allocate = separate(stacked, unit, scope, allocate)
    every = derive(steps, 1 / 65, every=every)
    fraction = fall_to_last(drop_fraction, steps)
    first = random_start(density, allocate, unit, scope, where)
    evolve = chain(first, regrow(scores.magnitude, grow, fraction, rounding="up", unit=unit, scope=scope))
    refresh = track_explored(evolve) if grow is scores.unfired else evolve
    return Plan(refresh, schedules.every(every, start=every))


def _fall_from(start: int, drop_fraction: float, stop: int) -> Schedule:
    fraction = schedules.cosine(drop_fraction, stop=stop - start)
    return lambda count: fraction(count - start)


def fall_to_last(drop_fraction: float, stop: int) -> Schedule:
    """Return the schedule that falls by a cosine to 0.005, or stays where it begins below."""
    check_fraction("drop_fraction", drop_fraction)
    traced = isinstance(drop_fraction, jax.core.Tracer)
    final: Any = jnp.minimum(_LAST_FRACTION, drop_fraction) if traced else min(_LAST_FRACTION, known(drop_fraction))
    return schedules.cosine(drop_fraction, stop=stop, final=final)


def random_start(density: Density, allocate: Allocate | None, unit: Unit, scope: Scope, where: Filter) -> MaskTransform:
    if allocate is not None and scope.joint:
        allocate = None  # one pool of units has no densities by leaf
    return _start.start(scores.random, density, allocate=allocate, unit=unit, scope=scope, where=where)
