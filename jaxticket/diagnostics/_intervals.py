"""Means of replicates with confidence intervals."""

import math
import statistics
from collections.abc import Iterable
from typing import NamedTuple

from scipy.special import stdtrit

from jaxticket._checks import check_number
from jaxticket.errors import InputError


class Interval(NamedTuple):
    """A mean, and half the width of its confidence interval (NaN for a single value)."""

    mean: float
    half_width: float

    @property
    def low(self) -> float:
        """The lower end."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """The upper end."""
        return self.mean + self.half_width


def interval(values: Iterable[float], *, confidence: float = 0.95) -> Interval:
    """Return the mean of replicates with its confidence interval by Student's t: values ± t · s / √n, in their own
    unit.

    A single value has a mean, but its interval is NaN, which compares as False with everything. A claim that intervals
    are apart then fails, as it should. A value that is not finite, such as that of a training that diverged, makes both
    NaN.

    Args:
      values: the value of each replicate.
      confidence: the probability that the interval covers the mean.

    Returns:
      An Interval.

    Raises:
      InputError: no values, or a confidence outside (0, 1).

    Examples:
      >>> interval([1.0, 2.0, 3.0])
      Interval(mean=2.0, half_width=2.484...)
      >>> interval([0.97, 0.98, 0.98, 0.99]).low > interval([0.93, 0.94, 0.92, 0.93]).high
      True
    """
    check_number(confidence=confidence)
    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence} must lie between 0 and 1, such as 0.95")
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise InputError(f"values={values!r} is not a sequence; pass the value of each replicate")
    values = list(values)
    for value in values:
        check_number(values=value)
    numbers = [float(value) for value in values]
    if not numbers:
        raise InputError("values is empty; a mean needs at least one replicate, an interval two")
    if not all(map(math.isfinite, numbers)):
        return Interval(math.nan, math.nan)
    if len(numbers) == 1:
        return Interval(numbers[0], math.nan)
    quantile = float(stdtrit(len(numbers) - 1, (1 + confidence) / 2))
    return Interval(statistics.fmean(numbers), quantile * statistics.stdev(numbers) / math.sqrt(len(numbers)))
