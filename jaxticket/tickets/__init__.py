"""Tickets: what they are, what the next one starts from, and how they are kept."""

from jaxticket.tickets import rewinds as rewinds
from jaxticket.tickets.checkpoint import describe as describe
from jaxticket.tickets.checkpoint import load as load
from jaxticket.tickets.checkpoint import save as save
from jaxticket.tickets.ticket import Ticket as Ticket
from jaxticket.tickets.ticket import rewind as rewind
