"""The speed of a training, from the history of its measurements."""

from collections.abc import Sequence

import numpy as np

from jaxticket._checks import check_number
from jaxticket.errors import InputError


def steps_to_reach(target: float, *, steps: Sequence[int], values: Sequence[float]) -> int | None:
    """Return the first step at which a value is at least `target`, such as the dense network's accuracy.

    `values[i]` was measured at `steps[i]`, so the answer is as fine as the measurements. NaN reaches nothing. For a
    loss give the negative of target and values.

    Args:
      target: the value to reach.
      steps: the steps of the measurements, rising.
      values: the value measured at each step.

    Returns:
      A step, or None if no value reaches the target.

    Raises:
      InputError: histories that are empty, of different lengths or whose steps do not rise.

    Examples:
      >>> steps_to_reach(0.9, steps=[100, 200, 300], values=[0.7, 0.92, 0.91])
      200
    """
    check_number(target=target)
    at, measured = _history(steps, values)
    reached = np.flatnonzero(measured >= target)
    return int(at[reached[0]]) if len(reached) else None


def early_stopping_step(*, steps: Sequence[int], losses: Sequence[float]) -> int:
    """Return the step of the lowest validation loss, the first of equal losses.

    The authors of winning tickets measure by it the speed of learning (Frankle & Carbin, 2019).

    Args:
      steps: the steps of the measurements, rising.
      losses: the loss at each step, on validation data. NaN counts as infinite.

    Returns:
      A step.

    Raises:
      InputError: histories that are empty, of different lengths, whose steps do not rise, or that hold nothing but NaN.

    Examples:
      >>> early_stopping_step(steps=[100, 200, 300], losses=[0.5, 0.3, 0.4])
      200
    """
    at, measured = _history(steps, losses)
    if np.all(np.isnan(measured)):
        raise InputError("losses are all NaN: the training diverged before the first of them was measured")
    return int(at[np.nanargmin(measured)])


def _history(steps: Sequence[int], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    try:
        at, measured = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"steps={steps!r:.80} or values={values!r:.80} hold something that is not a number ({error})"
        ) from error
    if at.ndim != 1 or at.shape != measured.shape or not len(at):
        raise InputError(
            f"a history of {at.shape} steps and {measured.shape} values; give one value a step, at least one"
        )
    if not np.all(np.isfinite(at)) or np.any(np.diff(at) <= 0):
        raise InputError(f"steps={at.tolist()} must rise; sort the history by step")
    return at, measured
