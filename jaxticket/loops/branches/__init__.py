"""Controls, with which a winning ticket is compared. Each makes another ticket of a ticket.

A control is trained as the ticket is: the step stays, and so do the learning rates that a schedule gives from there.
"""

from jaxticket.loops.branches._others import rewinding_sweep, transfer
from jaxticket.loops.branches._structures import (
    dense,
    global_random_ticket,
    inverted_mask,
    inverted_scores,
    random_ticket,
)
from jaxticket.loops.branches._values import InitFn, random_reinit, sign_reinit
from jaxticket.loops.branches._widths import small_dense, widest

__all__ = [
    "InitFn",
    "dense",
    "global_random_ticket",
    "inverted_mask",
    "inverted_scores",
    "random_reinit",
    "random_ticket",
    "rewinding_sweep",
    "sign_reinit",
    "small_dense",
    "transfer",
    "widest",
]
