"""Schedules of density, drop fraction and refreshes: functions of the count of updates, traced or not."""

import dataclasses
import math
import numbers
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._checks import check_fraction, check_number, check_structure, known
from jaxticket.errors import InputError
from jaxticket.typing import Density, Period, Schedule

__all__ = [
    "Count",
    "DensitySchedule",
    "at",
    "constant",
    "cosine",
    "cubic",
    "either",
    "every",
    "fixed",
    "levels",
    "one_shot",
    "power",
]

Count = int | jax.Array


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
        check_structure("final", final, "initial", initial)
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
    step = _check_steps("step", step)
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
    start, stop = _check_steps("start", start), _check_steps("stop", stop, at_least=start, least_name="start")

    def remaining(count: Count) -> jax.Array:
        # where: `stop` is reached exactly, also if it equals `start`.
        rest = 1 - _progress(jnp.asarray(count) - start, stop - start)
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
    n = _check_steps("n", n, at_least=1)
    check_number(rate=rate)
    if not 0 < known(rate) < 1:
        raise InputError(f"rate={rate} must lie between 0 and 1; 0.2 prunes a fifth of the survivors at each level.")
    return tuple((1 - rate) ** i for i in range(n))


def cosine(initial: float, *, stop: int, final: float = 0.0) -> Schedule:
    """Return a schedule of drop fractions that falls as a cosine: final + (initial − final) / 2 · (1 + cos(π t /
    stop)).

    RigL ends at 0 (Evci et al., 2020); SNFS, ITOP and GraNet end at 0.005 (Dettmers & Zettlemoyer, 2019).

    Args:
      initial: the fraction dropped at step 0.
      stop: the step from which the fraction is `final`.
      final: the fraction dropped at the end.

    Returns:
      A schedule of float32 scalars.

    Raises:
      InputError: a fraction outside [0, 1], final > initial or stop < 1.

    Examples:
      >>> schedule = cosine(0.3, stop=100)
      >>> [round(float(schedule(t)), 4) for t in (0, 50, 100, 200)]
      [0.3, 0.15, 0.0, 0.0]
    """
    check_fraction("initial", initial)
    check_fraction("final", final)
    if not isinstance(initial, jax.core.Tracer) and known(final) > known(initial):
        raise InputError(f"final={final} is above initial={initial}; a drop fraction falls.")
    stop = _check_steps("stop", stop, at_least=1)

    def schedule(count: Count) -> jax.Array:
        rest = jnp.float32(initial - final) * (0.5 * (1 + jnp.cos(jnp.pi * _progress(jnp.asarray(count), stop))))
        return jnp.where(jnp.asarray(count) < stop, rest, 0.0) + jnp.float32(final)

    return schedule


def power(initial: float, *, stop: int, exponent: float = 1.0) -> Schedule:
    """Return a schedule of drop fractions that falls as initial · (1 − t / stop)^exponent (Evci et al., 2020,
    appendix).

    Args:
      initial: the fraction dropped at step 0.
      stop: the step from which the fraction is 0.
      exponent: 1 is a straight line, 3 the cubic of gradual pruning.

    Returns:
      A schedule of float32 scalars.

    Raises:
      InputError: a fraction outside [0, 1], stop < 1 or an exponent that is not positive.

    Examples:
      >>> schedule = power(0.4, stop=100, exponent=2)
      >>> [round(float(schedule(t)), 4) for t in (0, 50, 100)]
      [0.4, 0.1, 0.0]
    """
    check_fraction("initial", initial)
    stop = _check_steps("stop", stop, at_least=1)
    check_number(exponent=exponent)
    if not 0 < exponent < math.inf:
        raise InputError(f"exponent={exponent} must be positive and finite; 1 is a straight line.")

    def schedule(count: Count) -> jax.Array:
        return jnp.float32(initial) * (1 - _progress(jnp.asarray(count), stop)) ** jnp.float32(exponent)

    return schedule


def fixed(value: float) -> Schedule:
    """Return a schedule of the same drop fraction at every step (Mocanu et al., 2018), a float32 scalar.

    Raises InputError for a fraction outside [0, 1].

    Examples:
      >>> float(fixed(0.5)(7))
      0.5
    """
    check_fraction("value", value)
    return lambda count: jnp.float32(value)


def every(n: int, *, start: int = 0, stop: int | None = None) -> Period:
    """Return a period that is due at start, start + n, start + 2n, … up to and including `stop`.

    Args:
      n: the number of steps between two refreshes; steps count updates.
      start: the first step that is due.
      stop: the last step that may be due; None for no end.

    Returns:
      A function step -> whether a refresh is due.

    Raises:
      InputError: n < 1, or steps for which 0 ≤ start ≤ stop does not hold.

    Examples:
      >>> due = every(100, start=200, stop=400)
      >>> [t for t in range(0, 1000, 50) if due(t)]
      [200, 300, 400]
    """
    n, start = _check_steps("n", n, at_least=1), _check_steps("start", start)
    if stop is not None:
        stop = _check_steps("stop", stop, at_least=start, least_name="start")

    def due(count: Count) -> jax.Array:
        count = jnp.asarray(count)
        hit = (count >= start) & ((count - start) % n == 0)
        return hit if stop is None else hit & (count <= stop)

    return due


def at(steps: Sequence[int]) -> Period:
    """Return a period that is due at the given steps only (counted in updates); never, if there are none.

    Raises InputError for a step that is negative or not a whole number.

    Examples:
      >>> [t for t in range(10) if at([2, 7])(t)]
      [2, 7]
    """
    if isinstance(steps, numbers.Integral):
        raise InputError(f"steps={steps} is a number; pass a sequence of steps, as at([{steps}]).")
    if not isinstance(steps, Iterable):
        raise InputError(f"steps={steps!r} is not a sequence; pass the steps, such as at([100, 200]).")
    wanted = tuple(_check_steps("steps", step) for step in steps)
    return lambda count: jnp.any(jnp.asarray(count) == jnp.asarray(wanted, jnp.int32))


def either(a: Period, b: Period) -> Period:
    """Return a period that is due when `a` or `b` is.

    Args:
      a: a period.
      b: another period.

    Returns:
      A function step -> whether a refresh is due.

    Examples:
      >>> [t for t in range(10) if either(every(4), at([5]))(t)]
      [0, 4, 5, 8]
    """
    return lambda count: a(count) | b(count)


def _progress(elapsed: jax.Array, length: int) -> jax.Array:
    """Return elapsed / length in [0, 1], in float32. Integers are clipped first: float32 cannot hold them all."""
    return jnp.clip(elapsed, 0, length).astype(jnp.float32) / jnp.float32(max(length, 1))


def _is_number(x: Any) -> bool:
    return isinstance(x, numbers.Real) or getattr(x, "ndim", None) == 0


def _check_steps(name: str, value: Any, *, at_least: int = 0, least_name: str = "") -> int:
    try:
        steps = operator.index(value)
    except TypeError as error:
        raise InputError(f"{name}={value!r} is not a whole number; steps count updates, as in {name}=100.") from error
    if steps < at_least:
        least = f"{least_name}={at_least}" if least_name else f"{at_least}"
        raise InputError(f"{name}={steps} is too small; it must be at least {least}.")
    return steps
