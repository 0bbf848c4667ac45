"""Controls that keep the weights and change the mask."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxticket import _tree, masks, scopes
from jaxticket._check_trees import check_arrays, check_structure
from jaxticket._checks import check_array, check_key
from jaxticket.errors import StructureError
from jaxticket.scopes import Scope
from jaxticket.selection import select
from jaxticket.tickets._ticket import Ticket, fit_mask
from jaxticket.typing import Density, Key, Mask, Scores


def random_ticket(ticket: Ticket, *, key: Key) -> Ticket:
    """Shuffle the mask within each leaf: the control for the densities of the layers alone.

    Each leaf keeps exactly as many units as before, any set of them as likely as any other. It is the control
    'layer-wise random pruning' of Frankle et al., "Stabilizing the Lottery Ticket Hypothesis" (2019).

    Args:
      ticket: the ticket.
      key: a typed PRNG key.

    Returns:
      The control.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> ticket = Ticket({"w": jnp.arange(8.0)}, {"w": jnp.arange(8) < 3})
      >>> int(random_ticket(ticket, key=jax.random.key(0)).mask["w"].sum())
      3
    """
    ticket = fit_mask(ticket)
    return dataclasses.replace(ticket, mask=_reselect(ticket.mask, _noise(ticket.mask, key), scopes.leaf()))


def global_random_ticket(ticket: Ticket, *, key: Key) -> Ticket:
    """Shuffle the mask over all leaves together: the control for the total density alone.

    Exactly as many entries of the mask stay as before, any set of them as likely as any other. So all layers come out
    about equally dense, and small ones may collapse (see `diagnostics.layer_collapse`). Entries of a mask that
    broadcasts, such as channels, are shuffled as units. The optimizer is fresh. It is the 'global' shuffle of open_lth
    (Frankle et al., 2020).

    Args:
      ticket: the ticket.
      key: a typed PRNG key.

    Returns:
      The control.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> ticket = Ticket({"a": jnp.ones(6), "b": jnp.ones(2)}, {"a": jnp.arange(6) < 1, "b": jnp.arange(2) < 2})
      >>> int(sum(leaf.sum() for leaf in global_random_ticket(ticket, key=jax.random.key(0)).mask.values()))
      3
    """
    ticket = fit_mask(ticket)
    shuffled = _reselect(ticket.mask, _noise(ticket.mask, key), scopes.tree())
    return dataclasses.replace(ticket, mask=shuffled, opt_state=None)


def inverted_mask(ticket: Ticket) -> Ticket:
    """Complement the mask, so that exactly the weights remain that the ticket dropped.

    Its density is one minus the ticket's, so that below one half the control is the denser network. Where densities
    must match, as in the literature's inversions, see `inverted_scores`. The optimizer is fresh.

    Examples:
      >>> inverted_mask(Ticket({"w": jnp.ones(3)}, {"w": jnp.array([True, False, False])})).mask
      {'w': Array([False,  True,  True], dtype=bool)}
    """
    ticket = fit_mask(ticket)
    return dataclasses.replace(ticket, mask=masks.complement(ticket.mask), opt_state=None)


def inverted_scores(ticket: Ticket, scores: Scores, *, scope: Scope = scopes.leaf()) -> Ticket:
    """Keep the lowest scores, as many as the ticket keeps: the control for the criterion that ranks the weights.

    It is the "small final" criterion of Zhou et al., "Deconstructing Lottery Tickets" (2019), if `scores` are the
    magnitudes after training. It is the inversion of Frankle et al., "Pruning Neural Networks at Initialization"
    (2021), if they are those of a criterion at initialisation. If they made the ticket, and it keeps at most half, the
    two share no weight. Of equal scores the lower flat index survives. The optimizer is fresh.

    Args:
      ticket: the ticket.
      scores: the scores, in the shapes of the mask.
      scope: with scopes.leaf() each leaf keeps as many as the ticket's; with scopes.tree() only the total is equal.

    Returns:
      The control.

    Raises:
      StructureError: scores that do not have the shape of their mask.

    Examples:
      >>> ticket = Ticket({"w": jnp.ones(4)}, {"w": jnp.array([True, False, False, False])})
      >>> inverted_scores(ticket, {"w": jnp.array([4.0, 3.0, 1.0, 2.0])}).mask
      {'w': Array([False, False,  True, False], dtype=bool)}
    """
    ticket = fit_mask(ticket)
    scores = check_structure("scores", scores, "ticket.mask", ticket.mask)
    check_arrays("scores", scores)

    def lowest_first(name: str, s: jax.Array | None, m: jax.Array | None) -> jax.Array | None:
        if m is None:
            return None
        if s is None or s.shape != m.shape:
            shape = None if s is None else s.shape
            raise StructureError(f"scores at {name!r} has shape {shape}, its mask {m.shape}; score what the mask keeps")
        return ~s if jnp.issubdtype(s.dtype, jnp.integer) else -s  # minus would wrap around

    for path, s in zip(_tree.leaves(_tree.names(scores)), _tree.leaves(scores), strict=True):
        if s is not None:
            check_array(f"scores at {path!r}", s)
    lowest = _tree.tree_map(lowest_first, _tree.names(scores), scores, ticket.mask)
    return dataclasses.replace(ticket, mask=_reselect(ticket.mask, lowest, scope), opt_state=None)


def dense(ticket: Ticket) -> Ticket:
    """Keep the whole network, from the same weights and trained exactly as the ticket: the control for the mask's cost.

    The mask is full on the leaves that the ticket sparsifies; params, state and step stay, the optimizer is fresh.
    This is the reference for matching tickets (Frankle & Carbin, 2019).

    Examples:
      >>> dense(Ticket({"w": jnp.ones(2)}, {"w": jnp.array([True, False])}, step=9)).mask
      {'w': Array([ True,  True], dtype=bool)}
    """
    ticket = fit_mask(ticket)
    return dataclasses.replace(ticket, mask=masks.full_like(ticket.mask), opt_state=None)


def _noise(mask: Mask, key: Key) -> Scores:
    check_key("key", key)
    flat = [m for m in _tree.leaves(mask) if m is not None]
    keys = iter(jax.random.split(key, max(1, len(flat))))
    return _tree.map_present(lambda m: jax.random.bits(next(keys), m.shape), mask)


def _reselect(mask: Mask, ranking: Scores, scope: Scope) -> Mask:
    """Return the highest-ranked entries, as many as `mask` keeps in each leaf or, if all compete, in total."""
    kept = _tree.map_present(lambda m: int(jnp.sum(m)), mask)
    sizes = _tree.map_present(lambda m: m.size, mask)
    density: Density = _tree.map_present(lambda k, n: k / max(n, 1), kept, sizes)
    if scope.joint:
        density = sum(jax.tree.leaves(kept)) / max(sum(jax.tree.leaves(sizes)), 1)
    return select(ranking, density, scope=scope)
