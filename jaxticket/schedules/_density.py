"""Schedules of the density: the fraction of the weights that is kept."""

import dataclasses
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._check_trees import check_structure
from jaxticket._checks import check_fraction, check_number, known
from jaxticket.errors import InputError
from jaxticket.schedules._steps import Count, check_steps, progress
from jaxticket.typing import Density


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity: `final` may hold a dict
class DensitySchedule:
    """A schedule step -> density: initial · r + final · (1 − r), where r = remaining(step) falls from 1 to 0. Static.

    Attributes:
      initial: the fraction kept at the start, reached exactly: a number or a pytree of numbers (None stays None).
      final: the fraction kept at the end, likewise; if either is a pytree, so is the density.
      remaining: step -> the part of the way that remains, in [0, 1].

    Raises:
      InputError: a fraction outside [0, 1].
      StructureError: two pytrees that differ, when the schedule is called.

    Examples:
      >>> dataclasses.replace(constant(0.1), final={"kernel": 0.2, "bias": None})(0)
      {'bias': None, 'kernel': 0.2}
    """

    initial: Density
    final: Density
    remaining: Callable[[Count], float | jax.Array]

    def __post_init__(self) -> None:
        for name, value in (("initial", self.initial), ("final", self.final)):
            for leaf in jax.tree.leaves(value):
                check_fraction(name, leaf)

    def __call__(self, count: Count) -> Density:
        r = self.remaining(count)
        initial, final = self.initial, self.final
        if _is_number(initial) and _is_number(final):
            return initial * r + final * (1 - r)
        if _is_number(initial):
            initial = _tree.map_present(lambda _: self.initial, final)
        elif _is_number(final):
            final = _tree.map_present(lambda _: self.final, initial)
        final = check_structure("final", final, "initial", initial)
        return _tree.map_present(lambda a, b: a * r + b * (1 - r), initial, final)


def constant(density: Density) -> DensitySchedule:
    """Return a schedule of the same density at every step, exactly as given.

    A Python float stays a Python float, so that counts are exact in float64. Raises InputError for a density outside
    [0, 1].

    Examples:
      >>> constant(0.1)(7)
      0.1
    """
    return DensitySchedule(1.0, density, lambda count: 0.0)


def one_shot(density: Density, *, step: int) -> DensitySchedule:
    """Return a schedule of density 1 before a step and of `density` from that step on.

    Args:
      density: the fraction kept from `step` on, a number or a pytree of numbers.
      step: the step of the pruning, counted in updates.

    Returns:
      A DensitySchedule.

    Raises:
      InputError: a density outside [0, 1] or a negative step.

    Examples:
      >>> schedule = one_shot(0.25, step=10)
      >>> float(schedule(9)), float(schedule(10))
      (1.0, 0.25)
    """
    step = check_steps("step", step)
    return DensitySchedule(1.0, density, lambda count: jnp.where(jnp.asarray(count) < step, 1.0, 0.0))


def cubic(density: Density, *, start: int, stop: int, initial: Density = 1.0) -> DensitySchedule:
    """Return the schedule of gradual pruning: d_f + (d_i − d_f) · (1 − (t − start) / (stop − start))³ (Zhu & Gupta,
    2017).

    The density falls fast at first and slowly towards the end, and is exact at both ends. Leave a fifth of training or
    more after `stop` to recover.

    Args:
      density: the fraction d_f kept from `stop` on.
      start: the step up to which the density is `initial`, counted in updates.
      stop: the step from which the density is `density`.
      initial: the fraction d_i kept up to `start`.

    Returns:
      A DensitySchedule.

    Raises:
      InputError: densities outside [0, 1], or steps for which 0 ≤ start ≤ stop does not hold.

    Examples:
      >>> schedule = cubic(0.2, start=100, stop=300)
      >>> [round(float(schedule(t)), 4) for t in (0, 100, 200, 300, 400)]
      [1.0, 1.0, 0.3, 0.2, 0.2]
    """
    start, stop = check_steps("start", start), check_steps("stop", stop, at_least=start, least_name="start")

    def remaining(count: Count) -> jax.Array:
        # where: `stop` is reached exactly, also if it equals `start`.
        rest = 1 - progress(jnp.asarray(count) - start, stop - start)
        return jnp.where(jnp.asarray(count) < stop, rest * rest * rest, 0.0)

    return DensitySchedule(initial, density, remaining)


def levels(n: int, *, rate: float = 0.2) -> tuple[float, ...]:
    """Return the densities of `n` levels of iterative pruning, dense first: (1 − rate)^i (Frankle & Carbin, 2019).

    Args:
      n: the number of levels.
      rate: the part of the survivors that each level prunes.

    Returns:
      `n` densities, the first of them 1.

    Raises:
      InputError: n < 1 or a rate outside (0, 1).

    Examples:
      >>> levels(3, rate=0.5)
      (1.0, 0.5, 0.25)
    """
    n = check_steps("n", n, at_least=1)
    check_number(rate=rate)
    if not 0 < known(rate) < 1:
        raise InputError(f"rate={rate} must lie between 0 and 1; 0.2 prunes a fifth of the survivors at each level.")
    return tuple((1 - rate) ** i for i in range(n))


def _is_number(x: Any) -> bool:
    return isinstance(x, numbers.Real) or getattr(x, "ndim", None) == 0
