"""Published plans that prune, by name: recombinations of start, prune and alternate."""

import itertools
from collections.abc import Sequence

from jaxticket import filters, schedules, scopes, scores, units
from jaxticket._checks import check_count
from jaxticket.errors import InputError
from jaxticket.scopes import Scope
from jaxticket.transforms import _start
from jaxticket.transforms._alternate import alternate
from jaxticket.transforms._base import Plan
from jaxticket.transforms._evolve import prune
from jaxticket.transforms._lengths import derive
from jaxticket.transforms._shrink import shrink
from jaxticket.transforms._start import Allocate, separate
from jaxticket.typing import Density, Filter, ScoreFn, Stacked
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
    spacing: _start.Spacing = "exponential",
    stacked: Stacked | None = None,
) -> Plan:
    """Keep one mask for the whole training: the best-scored `density` of the first parameters, or the mask you give.

    With `sparsify(..., mask=ticket.mask)` it trains a ticket (Frankle & Carbin, 2019). With a score that needs data,
    over `scopes.tree()`, it is pruning at initialisation: `score=scores.snip(loss, batches)`, `scores.grasp`,
    `scores.synflow` with `rounds=100`.

    Args:
      density: the fraction kept.
      score: the importance of a weight.
      allocate: a function that shares the density among leaves, such as `allocate.erk`.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.
      rounds: how many times the weights are scored, on the way to `density`; see `start`.
      revive: whether a round may keep what an earlier one pruned (FORCE).
      spacing: the densities of the rounds; see `start`.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      The plan, which never refreshes.

    Examples:
      >>> static(0.1).when is None
      True
    """
    unit, scope, allocate = separate(stacked, unit, scope, allocate)
    first = _start.start(
        score,
        density,
        allocate=allocate,
        unit=unit,
        scope=scope,
        where=where,
        rounds=rounds,
        revive=revive,
        spacing=spacing,
    )
    return Plan(first, None, newborn="keep")


def gradual(
    density: Density | schedules.DensitySchedule,
    *,
    steps: int | None = None,
    start: int | None = None,
    stop: int | None = None,
    every: int | None = None,
    score: ScoreFn = scores.magnitude,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    allocate: Allocate | None = None,
    minimum: int = 0,
    where: Filter = filters.weights(),
    stacked: Stacked | None = None,
) -> Plan:
    """Prune gradually: a cubic descent to `density` between the steps `start` and `stop` (Zhu & Gupta, 2017).

    A refresh is due at start, start + every, … and at stop, so that the final density is reached exactly. With
    `scopes.tree()`, and a `minimum` of units that each leaf keeps against layer collapse, it is Global MP (Gupta et
    al., 2022).

    Args:
      density: the final fraction kept, or a schedule of it, such as `schedules.one_shot(d, step=s)`.
      steps: the length of the training. Pruning then starts after a tenth of it, stops after three quarters, which
        leaves a quarter to recover, and refreshes at every hundredth part.
      start: the step of the first refresh. Without `steps` it is 0.
      stop: the step at which the final density is reached.
      every: steps between refreshes. Without `steps` it is 100.
      score: the importance of a weight.
      unit: weights that live or die together.
      scope: units that compete with each other.
      allocate: a function that shares the final density among leaves, such as `allocate.erk`.
      minimum: units that each leaf keeps; with `scopes.tree()`.
      where: the leaves that are sparsified.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      The plan.

    Raises:
      InputError: neither `steps` nor `stop`, a start after stop, densities outside [0, 1], or a minimum in another
        scope.

    Examples:
      >>> plan = gradual(0.1, steps=1000)
      >>> bool(plan.when(750)), bool(plan.when(751))
      (True, False)
    """
    unit, scope, allocate = separate(stacked, unit, scope, allocate)
    start = derive(steps, 0.1, otherwise=0, start=start)
    stop, every = derive(steps, 0.75, stop=stop), derive(steps, 0.01, otherwise=100, every=every)
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
    stacked: Stacked | None = None,
) -> Plan:
    """Alternate sparse and dense phases, of which the last one is sparse (AC/DC; Peste et al., 2021).

    A weight that comes back starts from zero, and all moments restart with it. Every other checkpoint is a dense
    network.

    Args:
      density: the fraction kept in sparse phases.
      steps: the length of the training.
      compress: the parts of the training after which sparse phases begin; by default those published for ResNet-50,
        100 epochs.
      decompress: the parts after which dense phases begin.
      score: the importance of a weight.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      The plan.

    Raises:
      InputError: phases that do not take turns between 0 and 1, a sparse one first and last.

    Examples:
      >>> plan = ac_dc(0.1, steps=100)
      >>> [t for t in range(100) if plan.when(t)]
      [10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 85]
    """
    unit, scope, _ = separate(stacked, unit, scope, None)
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
    steps: int | None = None,
    stop: int | None = None,
    rate: float = 0.95,
    unit: Unit = units.element(),
    scope: Scope = scopes.leaf(),
    where: Filter = filters.weights(),
    stacked: Stacked | None = None,
) -> Plan:
    """Shrink the smallest weights by `rate` at each step before `stop`, and cut them at `stop` (ISS-P).

    After Wang et al., "Iterative Soft Shrinkage Learning" (2023). The choice of the weights that shrink is made again
    at each step, so that any can recover until then. At rate 0 it is iterative hard thresholding.

    Args:
      density: the fraction kept from `stop` on.
      steps: the length of the training, of which the first half shrinks.
      stop: the step of the cut, unless it follows from `steps`.
      rate: the factor by which a weight shrinks.
      unit: weights that live or die together.
      scope: units that compete with each other.
      where: the leaves that are sparsified.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes; each layer counts as a
        leaf.

    Returns:
      The plan.

    Raises:
      InputError: neither `steps` nor `stop`; otherwise as `transforms.shrink` and `gradual`.

    Examples:
      >>> iss_p(0.1, steps=1000).after is None
      False
    """
    unit, scope, _ = separate(stacked, unit, scope, None)
    stop = derive(steps, 0.5, stop=stop)
    cut = gradual(schedules.one_shot(density, step=stop), start=stop, stop=stop, unit=unit, scope=scope, where=where)
    return cut._replace(after=shrink(density, rate, stop=stop, unit=unit, scope=scope, where=where))
