"""Published plans that prune, by name: recombinations of start, prune and alternate."""

import itertools
from collections.abc import Sequence

from jaxticket import filters, schedules, scopes, scores, units
from jaxticket._checks import check_count
from jaxticket.errors import InputError
from jaxticket.scopes import Scope
from jaxticket.transforms._alternate import alternate
from jaxticket.transforms._base import Plan
from jaxticket.transforms._evolve import prune
from jaxticket.transforms._shrink import shrink
from jaxticket.transforms._start import Allocate, start
from jaxticket.typing import Density, Filter, ScoreFn
from jaxticket.units import Unit


def static(
    density: Density = 1.0,
    *,
    score: ScoreFn = scores.magnitude,
    allocate: Allocate | None = None,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
    rounds: int = 1,
    revive: bool = False,
) -> Plan:
    """One mask for the whole training: the best-scored `density` of the first parameters, or the mask you give.

    With `sparsify(..., mask=ticket.mask)` it trains a ticket (Frankle & Carbin, 2019). With a score of
    `scores.probe` over `scopes.tree()` it is pruning at initialisation: `score=scores.snip(loss, batches)`,
    `scores.grasp`, `scores.synflow` with `rounds=100`; `rounds` and `revive` as in `start`.

    >>> static(0.1).when is None
    True
    """
    first = start(score, density, allocate=allocate, unit=unit, scope=scope, where=where, rounds=rounds, revive=revive)
    return Plan(first, None, newborn="keep")


def gradual(
    density: Density | schedules.DensitySchedule,
    *,
    stop: int,
    start: int = 0,
    every: int = 100,
    score: ScoreFn = scores.magnitude,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    allocate: Allocate | None = None,
    minimum: int = 0,
    where: Filter = filters.weights(),
) -> Plan:
    """Gradual pruning: a cubic descent to `density` between the steps `start` and `stop` (Zhu & Gupta, 2017).

    A refresh is due at start, start + every, … and at stop, so that the final density is reached exactly. A schedule
    in place of the number gives other shapes: `schedules.one_shot(d, step=s)`, `schedules.constant(d)`. Leave at least
    a fifth of the training after `stop` for recovery. With `scopes.tree()`, and a `minimum` of units that each leaf
    keeps against layer collapse, it is Global MP (Gupta et al., 2022).

    Raises InputError for a start after stop, densities outside [0, 1], or a minimum in another scope.

    >>> plan = gradual(0.1, start=100, stop=500, every=50)
    >>> bool(plan.when(500)), bool(plan.when(501))
    (True, False)
    """
    if not callable(density):
        density = schedules.cubic(density, start=start, stop=stop)
    when = schedules.either(schedules.every(every, start=start, stop=stop), schedules.at([stop]))
    refresh = prune(score, density, unit=unit, scope=scope, allocate=allocate, minimum=minimum, where=where)
    return Plan(refresh, when, newborn="keep")


def ac_dc(
    density: Density,
    *,
    steps: int,
    compress: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85),
    decompress: Sequence[float] = (0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75),
    score: ScoreFn = scores.magnitude,
    unit: Unit = units.element(),
    scope: Scope = scopes.tree(),
    where: Filter = filters.weights(),
) -> Plan:
    """AC/DC: sparse and dense phases take turns, the last one is sparse (Peste et al., 2021).

    What comes back starts from zero, and all moments restart with it. Every other checkpoint is a dense network.

    Args:
      steps: length of the training. compress, decompress: the parts of it after which sparse and dense phases begin;
        by default those published for ResNet-50, 100 epochs.

    Raises InputError unless the phases take turns, a sparse one first and last, between 0 and 1.

    >>> plan = ac_dc(0.1, steps=100)
    >>> [t for t in range(100) if plan.when(t)]
    [10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 85]
    """
    check_count(1, steps=steps)
    turns = [*itertools.chain.from_iterable(zip(compress, decompress, strict=False)), *compress[-1:]]
    rising = all(a < b for a, b in itertools.pairwise([*turns, 1.0]))
    if len(compress) != len(decompress) + 1 or not rising or turns[0] < 0:
        raise InputError(
            f"compress={tuple(compress)} and decompress={tuple(decompress)} must take turns between 0 and 1, beginning "
            "and ending with compress, as in compress=(0.1, 0.6), decompress=(0.3,)."
        )
    sparse, dense = (schedules.at([round(part * steps) for part in parts]) for parts in (compress, decompress))
    phases = alternate(score, density, compress=sparse, decompress=dense, unit=unit, scope=scope, where=where)
    return Plan(phases, schedules.either(sparse, dense), newborn="reset_all")


def iss_p(
    density: Density,
    *,
    stop: int,
    rate: float = 0.95,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
) -> Plan:
    """ISS-P: before `stop` the smallest weights shrink by `rate` at each step, at `stop` they are cut.

    After Wang et al., "Iterative Soft Shrinkage Learning" (2023). Which weights shrink is decided anew at each step,
    so that any can recover until then. At rate 0 it is iterative hard thresholding. Raises InputError as
    `transforms.shrink` and `gradual` do.

    >>> iss_p(0.1, stop=100).after is None
    False
    """
    cut = gradual(schedules.one_shot(density, step=stop), start=stop, stop=stop, unit=unit, scope=scope, where=where)
    return cut._replace(after=shrink(density, rate, stop=stop, unit=unit, scope=scope, where=where))
