"""Tickets that run faster: channels that can be removed only together, their removal, and the smaller program.

`trace` finds the groups of coupled channels from the jaxpr of any function. Their channels are scored, chosen as masks
of channels (`name of a group -> bool of shape (width,)`) and removed by `shrink`; `replay` runs what is left.
"""

from jaxticket.structure._budget import Budget, Cost, Ranking, choose
from jaxticket.structure._channels import Channels, channels, spread
from jaxticket.structure._groups import Frozen, Group, Groups, Leaf, Member, Work
from jaxticket.structure._latency import latency
from jaxticket.structure._replay import replay
from jaxticket.structure._resize import expand, shrink
from jaxticket.structure._splits import Prefer
from jaxticket.structure._trace import trace
from jaxticket.structure._unit import Normalise, group_magnitude, pool, unit
from jaxticket.structure._votes import vote

__all__ = [
    "Budget",
    "Channels",
    "Cost",
    "Frozen",
    "Group",
    "Groups",
    "Leaf",
    "Member",
    "Normalise",
    "Prefer",
    "Ranking",
    "Work",
    "channels",
    "choose",
    "expand",
    "group_magnitude",
    "latency",
    "pool",
    "replay",
    "shrink",
    "spread",
    "trace",
    "unit",
    "vote",
]
