"""SuperTickets: channels of a supernet are searched away and weights are pruned, in one training (You et al., 2022).

A supernet filters its hidden channels in parallel branches, each channel under a scale of a batch norm. An l1 penalty,
by what a channel costs, drives scales to zero, and channels go whose scale is dead: shapes change only there, outside
jit. At the ends of intervals a mask of the largest weights of the whole network is chosen. A weight that is left out
keeps its value, and returns if others fall below it. What is left at the end is the ticket.
"""

from jaxticket.methods.channels.supertickets._scales import alive_scales, scale_costs, token_cost
from jaxticket.methods.channels.supertickets._search import (
    Epoch,
    Search,
    begin,
    prune,
    search_loss,
    sparsity_at,
    supertickets,
)

__all__ = [
    "Epoch",
    "Search",
    "alive_scales",
    "begin",
    "prune",
    "scale_costs",
    "search_loss",
    "sparsity_at",
    "supertickets",
    "token_cost",
]
