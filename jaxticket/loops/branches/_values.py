"""Controls that keep the mask and change the weights."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._check_trees import check_alike, check_structure
from jaxticket._checks import check_key
from jaxticket.tickets._ticket import Ticket, fit_mask
from jaxticket.typing import Key, Params, PyTree

InitFn = Callable[[Key], tuple[Params, PyTree]]  # key -> fresh parameters and model state, as from `Model.init`


def random_reinit(ticket: Ticket, init: InitFn, *, key: Key) -> Ticket:
    """Keep the mask over fresh weights: the control for the structure alone (Frankle & Carbin, 2019).

    The step stays, so that the control sees the ticket's learning rates; the optimizer is fresh.

    Args:
      ticket: the ticket.
      init: key -> parameters and model state, as `Model.init`.
      key: a typed PRNG key.

    Returns:
      The control.

    Raises:
      StructureError: `init` makes another structure.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> ticket = Ticket({"w": jnp.zeros(2)}, {"w": jnp.array([True, False])})
      >>> random_reinit(ticket, lambda key: ({"w": jnp.ones(2)}, None), key=jax.random.key(0)).params
      {'w': Array([1., 1.], dtype=float32)}
    """
    check_key("key", key)
    ticket = fit_mask(ticket)
    params, state = init(key)
    params = check_structure("what init(key) returns", params, "ticket.params", ticket.params)
    return dataclasses.replace(ticket, params=params, state=state, opt_state=None)


def sign_reinit(ticket: Ticket, init: InitFn, *, key: Key) -> Ticket:
    """Keep the mask and the signs over fresh magnitudes: the control for mask and signs without magnitudes.

    It is `random_reinit` in which each sparsified weight has the ticket's sign: the variant "reinit, same sign" of Zhou
    et al., "Deconstructing Lottery Tickets" (2019), not their constant or reshuffled one. Magnitudes are those of
    `init(key)` (their code permutes the layer's own initial ones), signs those at the rewind point (0 counts as
    positive). A symmetric initialisation keeps its distribution. Leaves that are not sparsified and the model state are
    fresh too; the step stays, the optimizer is fresh.

    Args:
      ticket: the ticket.
      init: key -> parameters and model state, as `Model.init`.
      key: a typed PRNG key.

    Returns:
      The control.

    Raises:
      StructureError: `init` makes another structure or other shapes.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> ticket = Ticket({"w": jnp.array([-3.0, 4.0])}, {"w": jnp.array([True, False])})
      >>> sign_reinit(ticket, lambda key: ({"w": jnp.array([0.1, -0.2])}, None), key=jax.random.key(0)).params
      {'w': Array([-0.1,  0.2], dtype=float32)}
    """
    fresh = random_reinit(ticket, init, key=key)
    check_alike("what init(key) returns", fresh.params, "ticket.params", ticket.params)

    def take_sign(new: jax.Array, old: jax.Array, kept: jax.Array | None) -> jax.Array:
        return new if kept is None else jnp.where(old < 0, -jnp.abs(new), jnp.abs(new))

    return dataclasses.replace(fresh, params=_tree.tree_map(take_sign, fresh.params, ticket.params, ticket.mask))
