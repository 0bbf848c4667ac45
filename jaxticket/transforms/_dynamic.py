"""Published plans of dynamic sparse training, by name: recombinations of start, prune, regrow and redistribute."""

from jaxticket import filters, schedules, scopes, scores, units
from jaxticket._checks import check_fraction, known
from jaxticket.allocate import erk, uniform
from jaxticket.scopes import Scope
from jaxticket.transforms._averaged import averaged
from jaxticket.transforms._base import MaskTransform, Plan, chain
from jaxticket.transforms._evolve import prune, redistribute, regrow
from jaxticket.transforms._start import Allocate, start
from jaxticket.typing import Density, Filter, Schedule, ScoreFn
from jaxticket.units import Unit

_LAST_FRACTION = 0.005  # to which the drop fractions of SNFS, ITOP and GraNet fall


def sparse_evolutionary(
    density: Density,
    *,
    drop_fraction: float | Schedule = 0.3,
    every: int = 100,
    stop: int | None = None,
    allocate: Allocate | None = erk,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Plan:
    """SET: drop the smallest weights, grow at random (Mocanu et al., 2018). Needs `sparsify(..., key=)`.

    >>> sparse_evolutionary(0.1).skip_on_refresh
    False
    """
    first = _random_start(density, allocate, unit, scope, where)
    evolve = regrow(scores.magnitude, scores.random, drop_fraction, unit=unit, scope=scope)
    return Plan(chain(first, evolve), schedules.every(every, stop=stop))


def rigl(
    density: Density,
    *,
    stop: int,
    drop_fraction: float = 0.3,
    every: int = 100,
    allocate: Allocate | None = erk,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Plan:
    """RigL: drop the smallest weights, grow where the dense gradient is largest (Evci et al., 2020).

    The drop fraction falls by a cosine from `drop_fraction` to 0 at `stop` (about three quarters of the training);
    weights rest on the step of a refresh, as in the published code. Needs `sparsify(..., key=)` for its random start.

    >>> rigl(0.1, stop=1000).skip_on_refresh
    True
    """
    first = _random_start(density, allocate, unit, scope, where)
    fraction = schedules.cosine(drop_fraction, stop=stop)
    evolve = regrow(scores.magnitude, scores.gradient, fraction, unit=unit, scope=scope)
    return Plan(chain(first, evolve), schedules.every(every, stop=stop), skip_on_refresh=True)


def snfs(
    density: Density,
    *,
    stop: int,
    drop_fraction: float = 0.5,
    every: int = 100,
    decay: float = 0.9,
    allocate: Allocate | None = uniform,
    unit: Unit = units.element(),
    where: Filter = filters.weights(),
) -> Plan:
    """SNFS: sparse momentum, which also moves weights between leaves (Dettmers & Zettlemoyer, 2019).

    Drops the smallest weights; what was dropped is shared among the leaves by their mean momentum, and grown where the
    momentum of dead weights is largest. Momentum is a running average of dense gradients (`transforms.averaged`). The
    drop fraction falls by a cosine to 0.005 at `stop`, the end of training as published; `every` is an epoch there.
    Needs `sparsify(..., key=)` for its random start.

    >>> snfs(0.1, stop=1000).refresh.observe is None
    False
    """
    fraction = _to_last(drop_fraction, stop)
    evolve = averaged(redistribute(scores.magnitude, scores.gradient, fraction, unit=unit), decay=decay)
    first = _random_start(density, allocate, unit, scopes.leaf(), where)
    return Plan(chain(first, evolve), schedules.every(every, start=every, stop=stop))


def itop(
    density: Density,
    *,
    steps: int,
    grow: ScoreFn = scores.random,
    drop_fraction: float = 0.5,
    every: int = 1500,
    allocate: Allocate | None = erk,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Plan:
    """ITOP: rare and large refreshes over the whole training, so that many weights are tried (Liu et al., 2021).

    SET with `grow=scores.random`, RigL with `grow=scores.gradient` (every 4,000 steps of 128 examples as published).
    The drop fraction falls by a cosine to 0.005 at `steps`, the end of the training; refreshes never stop. What part of
    the weights was ever alive is the in-time over-parametrisation rate. Needs `sparsify(..., key=)`.

    >>> bool(itop(0.1, steps=10_000).when(3000))
    True
    """
    fraction = _to_last(drop_fraction, steps)
    first = _random_start(density, allocate, unit, scope, where)
    evolve = regrow(scores.magnitude, grow, fraction, unit=unit, scope=scope)
    return Plan(chain(first, evolve), schedules.every(every, start=every))


def granet(
    density: Density,
    *,
    stop: int,
    steps: int,
    initial: float = 0.5,
    start: int = 0,
    every: int = 100,
    drop_fraction: float = 0.5,
    allocate: Allocate | None = erk,
    unit: Unit = units.element(),
    where: Filter = filters.weights(),
) -> Plan:
    """GraNet: gradual pruning over the whole tree, with regrowth in each leaf after it (Liu et al., 2021).

    From a random mask of density `initial` (1: dense-to-sparse, else sparse-to-sparse) a cubic descent reaches
    `density` at step `stop`, exactly. Each refresh then drops a part of each leaf and grows as many where the gradient
    is largest, also after `stop`; that part falls by a cosine to 0.005 at `steps`, the end of the training. Needs
    `sparsify(..., key=)` unless `initial` is 1.

    >>> bool(granet(0.1, stop=500, steps=1000).when(900))
    True
    """
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
    stop: int,
    gradient_weight: float = 0.01,
    drop_fraction: float = 0.3,
    every: int = 100,
    allocate: Allocate | None = uniform,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Plan:
    """MEST: drops where |w| + λ |g| is smallest, grows at random (Yuan et al., 2021).

    λ is `gradient_weight`. The drop fraction (elastic mutation) falls by a straight line to 0 at `stop`. Needs
    `sparsify(..., key=)`.

    >>> bool(mest(0.1, stop=1000).when(100))
    True
    """
    keep = scores.weighted_sum((scores.magnitude, 1.0), (scores.gradient, gradient_weight))
    evolve = regrow(keep, scores.random, schedules.power(drop_fraction, stop=stop), unit=unit, scope=scope)
    return Plan(
        chain(_random_start(density, allocate, unit, scope, where), evolve),
        schedules.every(every, start=every, stop=stop),
    )


def _to_last(drop_fraction: float, stop: int) -> Schedule:
    """Falls by a cosine to 0.005, or stays where it begins below."""
    check_fraction("drop_fraction", drop_fraction)
    return schedules.cosine(drop_fraction, stop=stop, final=min(_LAST_FRACTION, known(drop_fraction)))


def _random_start(
    density: Density, allocate: Allocate | None, unit: Unit, scope: Scope, where: Filter
) -> MaskTransform:
    if allocate is not None and scope.joint:
        allocate = None  # one pool of units has no densities by leaf
    return start(scores.random, density, allocate=allocate, unit=unit, scope=scope, where=where)
