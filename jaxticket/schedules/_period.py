"""Periods: the steps at which a mask is refreshed."""

import numbers
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp

from jaxticket.errors import InputError
from jaxticket.schedules._steps import Count, check_steps
from jaxticket.typing import Period


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
    n, start = check_steps("n", n, at_least=1), check_steps("start", start)
    if stop is not None:
        stop = check_steps("stop", stop, at_least=start, least_name="start")

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
    wanted = tuple(check_steps("steps", step) for step in steps)
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
