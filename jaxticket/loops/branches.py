"""Controls: what a winning ticket is compared with. Each makes another ticket of a ticket."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxticket import _tree, scopes
from jaxticket.selection import select
from jaxticket.tickets.ticket import Ticket
from jaxticket.typing import Key, Params, PyTree


def random_reinit(ticket: Ticket, init: Callable[[Key], tuple[Params, PyTree]], *, key: Key) -> Ticket:
    """The same mask over fresh weights: is it the structure alone that wins? (Frankle & Carbin, 2019)

    `init(key)` gives parameters and model state, as `Model.init` does. The step stays, so that the control sees the
    ticket's learning rates; the optimizer is fresh. Raises StructureError if init makes another structure.

    >>> import jax, jax.numpy as jnp
    >>> ticket = Ticket({"w": jnp.zeros(2)}, {"w": jnp.array([True, False])})
    >>> random_reinit(ticket, lambda key: ({"w": jnp.ones(2)}, None), key=jax.random.key(0)).params
    {'w': Array([1., 1.], dtype=float32)}
    """
    params, state = init(key)
    _tree.check_structure("what init(key) returns", params, "ticket.params", ticket.params)
    return dataclasses.replace(ticket, params=params, state=state, opt_state=None)


def random_ticket(ticket: Ticket, *, key: Key) -> Ticket:
    """The same weights under a mask shuffled within each leaf: is it the densities of the layers alone that win?

    Each leaf keeps exactly as many units as before, any set of them as likely as any other; the control 'layer-wise
    random pruning' of Frankle et al., "Stabilizing the Lottery Ticket Hypothesis" (2019).

    >>> import jax, jax.numpy as jnp
    >>> ticket = Ticket({"w": jnp.arange(8.0)}, {"w": jnp.arange(8) < 3})
    >>> int(random_ticket(ticket, key=jax.random.key(0)).mask["w"].sum())
    3
    """
    flat = [m for m in _tree.leaves(ticket.mask) if m is not None]
    keys = iter(jax.random.split(key, max(1, len(flat))))
    noise = _tree.map_present(lambda m: jax.random.bits(next(keys), m.shape), ticket.mask)
    kept = _tree.map_present(lambda m: int(jnp.sum(m)) / m.size, ticket.mask)
    return dataclasses.replace(ticket, mask=select(noise, kept, scope=scopes.leaf()))
