"""Covering samples of a product: every pair of values meets in some case, in far fewer cases than the product has."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

Case = dict[str, Any]


def product(factors: dict[str, Iterable[Any]], valid: Callable[[Case], bool]) -> list[Case]:
    """All valid cases."""
    cases = (dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values()))
    return [case for case in cases if valid(case)]


def pairwise(factors: dict[str, Iterable[Any]], valid: Callable[[Case], bool]) -> list[Case]:
    """Cases that hold every pair of values that some valid case holds; greedy, the same on every machine.

    >>> cases = pairwise({"a": [0, 1, 2], "b": [0, 1, 2], "c": [0, 1, 2]}, valid=lambda case: True)
    >>> len(cases)  # of 27
    10
    """
    everything = [(case, _pairs(case)) for case in product(factors, valid)]
    missing = dict.fromkeys(pair for _, pairs in everything for pair in pairs)
    chosen = []
    while missing:
        needed = next(iter(missing))
        case, pairs = max(
            (candidate for candidate in everything if needed in candidate[1]),
            key=lambda candidate: sum(pair in missing for pair in candidate[1]),
        )
        chosen.append(case)
        missing = {pair: None for pair in missing if pair not in pairs}
    return chosen


def _pairs(case: Case) -> dict[Any, None]:
    return dict.fromkeys(itertools.combinations(case.items(), 2))  # a set's order is not that of the next process
