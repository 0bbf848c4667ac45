"""Starts, ends and periods of published plans, as parts of a training."""

from jaxticket._checks import check_count
from jaxticket.errors import InputError


def part(steps: int, fraction: float) -> int:
    """Return this part of a training in steps, at least one.

    Examples:
      >>> part(1000, 0.75), part(10, 0.01)
      (750, 1)
    """
    return max(1, round(fraction * steps))


def derive(steps: int | None, fraction: float, *, otherwise: int | None = None, **given: int | None) -> int:
    """Return the one argument that is `given`, else this part of the training, else `otherwise`.

    Raises InputError, which names the argument and `steps`, if none of them is given.

    Examples:
      >>> derive(1000, 0.75, stop=None), derive(1000, 0.75, stop=600), derive(None, 0.01, otherwise=100, every=None)
      (750, 600, 100)
    """
    ((name, value),) = given.items()
    if steps is not None:
        check_count(1, steps=steps)
    if value is not None:
        return value
    if steps is not None:
        return part(steps, fraction)
    if otherwise is None:
        raise InputError(f"{name}=None; pass steps=, the length of the training, or {name}= itself, in steps.")
    return otherwise
