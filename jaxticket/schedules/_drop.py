"""Schedules of the drop fraction: the part of the kept weights that a refresh replaces."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxticket._checks import check_fraction, check_number, known
from jaxticket.errors import InputError
from jaxticket.schedules._steps import Count, check_steps, progress
from jaxticket.typing import Schedule


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
    stop = check_steps("stop", stop, at_least=1)

    def schedule(count: Count) -> jax.Array:
        rest = jnp.float32(initial - final) * (0.5 * (1 + jnp.cos(jnp.pi * progress(jnp.asarray(count), stop))))
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
    stop = check_steps("stop", stop, at_least=1)
    check_number(exponent=exponent)
    if not 0 < exponent < math.inf:
        raise InputError(f"exponent={exponent} must be positive and finite; 1 is a straight line.")

    def schedule(count: Count) -> jax.Array:
        return jnp.float32(initial) * (1 - progress(jnp.asarray(count), stop)) ** jnp.float32(exponent)

    return schedule


def staircase(initial: float, *, steps: Sequence[int]) -> Schedule:
    """Return a schedule of drop fractions that falls to 0 in equal stairs, one at each of the steps.

    MEST exchanges 0.2, then 0.1, then nothing (Yuan et al., 2021).

    Args:
      initial: the fraction dropped before the first of the steps.
      steps: the steps at which the fraction falls, counted in updates.

    Returns:
      A schedule of float32 scalars.

    Raises:
      InputError: a fraction outside [0, 1], or no steps.

    Examples:
      >>> schedule = staircase(0.2, steps=[90, 120])
      >>> [round(float(schedule(t)), 4) for t in (0, 90, 120)]
      [0.2, 0.1, 0.0]
    """
    check_fraction("initial", initial)
    stairs = tuple(check_steps("steps", step) for step in steps)
    if not stairs:
        raise InputError("steps is empty; pass the steps at which the fraction falls, such as steps=[90, 120].")

    def schedule(count: Count) -> jax.Array:
        passed = jnp.sum(jnp.asarray(count) >= jnp.asarray(stairs, jnp.int32))
        return jnp.float32(initial) * (1 - passed.astype(jnp.float32) / len(stairs))

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
