"""The whole search as one compiled program."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxticket._checks import check_densities
from jaxticket.loops._collapse import warn_of_collapse
from jaxticket.loops._imp import as_densities, level_keys
from jaxticket.loops._level import PruneFn
from jaxticket.masks import apply_mask
from jaxticket.tickets import rewinds
from jaxticket.tickets._ticket import Ticket, fit_mask
from jaxticket.tickets.rewinds import Rewind
from jaxticket.typing import Density, Key, Mask, Trained, TrainFn


class Levels(NamedTuple):
    """The levels of a search, stacked: every array has a leading axis over the levels."""

    density: Density  # as asked for, float32
    mask: Mask
    trained: Trained


def imp_scan(
    train: TrainFn,
    ticket: Ticket,
    *,
    densities: Sequence[Density],
    prune: PruneFn,
    rewind: Rewind = rewinds.weights(),
    key: Key,
) -> Levels:
    """Search as `imp` does, by a pure function that compiles to one program: for `jax.jit`, `jax.vmap` and replicates.

    Every level lives on the device until the end, and nothing can be resumed: searches of hours belong to `imp`. Keys
    are used as by `imp`. Densities may be traced, and are then not checked. All are rounded to float32, and the number
    of weights kept may differ from that of `imp` by one.

    Args:
      train: traceable, such as `scan_train(recipe, steps=...)`.
      ticket: as for `imp`.
      densities: as for `imp`.
      prune: as for `imp`, of traced densities: `loops.prune_by(...)` without `minimum`.
      rewind: as for `imp`.
      key: as for `imp`.

    Returns:
      Levels(density, mask, trained), each array with a leading axis over the levels.

    Raises:
      InputError: no densities, one outside [0, 1], or one above its predecessor.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jaxticket as jt
      >>> from jaxticket import schedules
      >>> ticket = Ticket({"w": jnp.arange(1.0, 9.0)}, {"w": jnp.ones(8, bool)})
      >>> train = lambda params, state, mask, key, *, step, opt_state: Trained(params, state, {})
      >>> densities = schedules.levels(3, rate=0.5)
      >>> search = lambda key: imp_scan(train, ticket, densities=densities, prune=jt.loops.prune_by(), key=key)
      >>> jax.jit(search)(jax.random.key(0)).mask["w"].sum(-1)
      Array([8, 4, 2], dtype=int32)
    """
    densities = as_densities(densities)
    ticket = fit_mask(ticket)
    if not any(isinstance(d, jax.core.Tracer) for d in jax.tree.leaves(list(densities))):
        check_densities(densities, ticket.mask)
    stacked = jax.tree.map(lambda *ds: jnp.stack([jnp.float32(d) for d in ds]), *densities)
    at = lambda index: jax.tree.map(lambda d: d[index], stacked)
    first_key, prune_key = level_keys(0, key=key)
    if any(isinstance(d, jax.core.Tracer) or d < 1 for d in jax.tree.leaves(densities[0])):
        mask = prune(ticket.params, ticket.mask, at(0), key=prune_key)
        ticket = Ticket(ticket.params, mask, ticket.step, ticket.state, ticket.opt_state, ticket.meta)

    def level(ticket: Ticket, key: Key) -> Trained:
        params = apply_mask(ticket.params, ticket.mask)
        return train(params, ticket.state, ticket.mask, key, step=ticket.step, opt_state=ticket.opt_state)

    # The first ticket is separate: a policy may change its step, or drop the state of its optimizer.
    trained = level(ticket, first_key)
    first = (ticket.mask, trained)
    if len(densities) == 1:
        return Levels(stacked, *jax.tree.map(lambda x: x[None], first))

    def next_ticket(ticket: Ticket, trained: Trained, index: int | jax.Array) -> Ticket:
        _, prune_key = level_keys(index, key=key)
        return rewind(ticket, trained, prune(trained.params, ticket.mask, at(index), key=prune_key))

    def body(ticket: Ticket, index: jax.Array) -> tuple[Ticket, Any]:
        train_key, _ = level_keys(index, key=key)
        trained = level(ticket, train_key)
        # After the last level this prunes once more, to the last density again.
        following = next_ticket(ticket, trained, jnp.minimum(index + 1, len(densities) - 1))
        return following, (ticket.mask, trained)

    _, others = jax.lax.scan(body, next_ticket(ticket, trained, 1), jnp.arange(1, len(densities)))
    levels = Levels(stacked, *jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), first, others))
    warn_of_collapse(jax.tree.map(lambda m: m[-1], levels.mask))
    return levels
