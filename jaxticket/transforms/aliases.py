"""Published plans by name: each is a recombination of start, prune and regrow."""

from jaxticket import filters, schedules, scopes, scores, units
from jaxticket.allocate import erk
from jaxticket.scopes import Scope
from jaxticket.transforms.base import MaskTransform, Plan, chain
from jaxticket.transforms.evolve import prune, regrow
from jaxticket.transforms.start import Allocate, start
from jaxticket.typing import Filter, Schedule, ScoreFn
from jaxticket.units import Unit


def static(
    density: float = 1.0,
    *,
    score: ScoreFn = scores.magnitude,
    allocate: Allocate | None = None,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Plan:
    """One mask for the whole training: the best-scored `density` of the first parameters, or the mask you give.

    With `sparsify(..., mask=ticket.mask)` it trains a ticket (Frankle & Carbin, 2019).

    >>> static(0.1).when is None
    True
    """
    return Plan(start(score, density, allocate=allocate, unit=unit, scope=scope, where=where), None, newborn="keep")


def gradual(
    density: float | schedules.DensitySchedule,
    *,
    stop: int,
    start: int = 0,
    every: int = 100,
    score: ScoreFn = scores.magnitude,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    allocate: Allocate | None = None,
    where: Filter = filters.weights(),
) -> Plan:
    """Gradual pruning: a cubic descent to `density` between the steps `start` and `stop` (Zhu & Gupta, 2017).

    A refresh is due at start, start + every, … and at stop, so that the final density is reached exactly. A schedule
    in place of the number gives other shapes: `schedules.one_shot(d, step=s)`, `schedules.constant(d)`. Leave at least
    a fifth of the training after `stop` for recovery.

    Raises InputError for a start after stop, or densities outside [0, 1].

    >>> plan = gradual(0.1, start=100, stop=500, every=50)
    >>> bool(plan.when(500)), bool(plan.when(501))
    (True, False)
    """
    if not callable(density):
        density = schedules.cubic(density, start=start, stop=stop)
    when = schedules.either(schedules.every(every, start=start, stop=stop), schedules.at([stop]))
    return Plan(prune(score, density, unit=unit, scope=scope, allocate=allocate, where=where), when, newborn="keep")


def sparse_evolutionary(
    density: float,
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
    density: float,
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


def _random_start(density: float, allocate: Allocate | None, unit: Unit, scope: Scope, where: Filter) -> MaskTransform:
    if allocate is not None and scope.joint:
        allocate = None  # one pool of units has no densities by leaf
    return start(scores.random, density, allocate=allocate, unit=unit, scope=scope, where=where)
