"""Schedules of density, drop fraction and refreshes: functions of the count of updates, traced or not."""

from jaxticket.schedules._density import DensitySchedule, constant, cubic, levels, one_shot
from jaxticket.schedules._drop import cosine, fixed, power, staircase
from jaxticket.schedules._period import at, either, every
from jaxticket.schedules._steps import Count

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
    "staircase",
]
