"""The tiers of a test's cases: the default suite takes a sample, `make breadth` and `make slow` take the others."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sample(cases: Iterable[Any], default: Collection[Any], *, breadth: Collection[Any] | None = None) -> list[Any]:
    """Return the cases for `pytest.mark.parametrize`, of which only those in `default` run by default.

    Of the others `make breadth` runs those in `breadth` (None: all), and `make slow` the rest. A case with a value for
    each of several names is a tuple.
    """

    def tier(case: Any) -> Any:
        if case in default:
            return case
        values = case if isinstance(case, tuple) else (case,)
        breadth_has_it = breadth is None or case in breadth
        return pytest.param(*values, marks=pytest.mark.breadth if breadth_has_it else pytest.mark.slow)

    return [tier(case) for case in cases]
