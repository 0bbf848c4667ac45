"""Tickets, the policies that rewind them, and the directories that keep them."""

from jaxticket.tickets import rewinds
from jaxticket.tickets._checkpoint import describe, load, save
from jaxticket.tickets._difference import Difference, load_difference, save_difference, take_difference
from jaxticket.tickets._step_checkpoint import StepCheckpoint
from jaxticket.tickets._store import Store, fingerprint
from jaxticket.tickets._ticket import Ticket, rewind

__all__ = [
    "Difference",
    "StepCheckpoint",
    "Store",
    "Ticket",
    "describe",
    "fingerprint",
    "load",
    "load_difference",
    "rewind",
    "rewinds",
    "save",
    "save_difference",
    "take_difference",
]
