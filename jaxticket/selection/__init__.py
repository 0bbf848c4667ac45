"""Selection of the units that survive: exactly k of them, without sorting."""

from jaxticket.selection._select import drop_and_grow, select
from jaxticket.selection._threshold import threshold

__all__ = [
    "drop_and_grow",
    "select",
    "threshold",
]
