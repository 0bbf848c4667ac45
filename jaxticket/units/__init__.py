"""The unit of pruning: weights that live or die together.

A unit pools scores (one entry a unit), expands a mask of units back to one that broadcasts to the parameters, and
returns the cost of each unit. Units work on whole trees, so that a unit may span leaves. `reduce` turns the scores of a
unit's weights into one: `mean`, `total`, `largest` or `l2`, always accumulated in float32 at least.
"""

from jaxticket.units._by_slice import by_slice
from jaxticket.units._kinds import Unit, normalise_axis
from jaxticket.units._reduce import Reduce, l2, largest, mean, total
from jaxticket.units._units import axis, block, element, heads, leaf

__all__ = [
    "Reduce",
    "Unit",
    "axis",
    "block",
    "by_slice",
    "element",
    "heads",
    "l2",
    "largest",
    "leaf",
    "mean",
    "normalise_axis",
    "total",
]
