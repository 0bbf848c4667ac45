"""Covering samples of a product: every value, or every pair of values, meets in some case."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

Case = dict[str, Any]


def product(factors: dict[str, Iterable[Any]], valid: Callable[[Case], bool]) -> list[Case]:
    """All valid cases."""
    cases = (dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values()))
    return [case for case in cases if valid(case)]


def covering(factors: dict[str, Iterable[Any]], valid: Callable[[Case], bool], *, together: int = 1) -> list[Case]:
    """Cases that hold every combination of so many values that some valid case holds; greedy, the same everywhere.

    Examples:
      >>> factors = {"a": [0, 1, 2], "b": [0, 1, 2], "c": [0, 1, 2]}
      >>> [len(covering(factors, valid=lambda case: True, together=n)) for n in (1, 2)]  # of 27
      [3, 10]
    """
    everything = [(case, _combinations(case, together)) for case in product(factors, valid)]
    missing = dict.fromkeys(part for _, parts in everything for part in parts)
    chosen = []
    while missing:
        needed = next(iter(missing))
        case, parts = max(
            (candidate for candidate in everything if needed in candidate[1]),
            key=lambda candidate: sum(part in missing for part in candidate[1]),
        )
        chosen.append(case)
        missing = {part: None for part in missing if part not in parts}
    return chosen


def _combinations(case: Case, together: int) -> dict[Any, None]:
    return dict.fromkeys(itertools.combinations(case.items(), together))  # a set's order differs between processes
