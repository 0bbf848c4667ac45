"""The control without a mask: a narrower network of as many parameters."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxticket import filters, masks
from jaxticket.errors import InputError
from jaxticket.tickets._ticket import Ticket
from jaxticket.typing import Filter, Key, Params, PyTree

WidthInitFn = Callable[[int, Key], tuple[Params, PyTree]]  # width, key -> fresh parameters and model state


def small_dense(ticket: Ticket, init: WidthInitFn, *, key: Key, where: Filter = filters.weights()) -> Ticket:
    """Return a dense network no larger than the ticket, from fresh weights: the control for size alone.

    The widest network is taken that has at most as many parameters as the ticket keeps, with those of leaves that are
    not sparsified. The step stays, the optimizer is fresh. It is "small-dense" against "large-sparse", the comparison
    of Zhu & Gupta, "To prune, or not to prune" (2017).

    Args:
      ticket: the ticket.
      init: (width, key) -> parameters and model state, with more parameters the larger the width.
      key: a typed PRNG key.
      where: the leaves on which the control has a mask, which is full.

    Returns:
      The control.

    Raises:
      InputError: even width 1 has too many parameters.
      NoMatchError: `where` matches nothing.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> ticket = Ticket({"w": jnp.ones((4, 4))}, {"w": jnp.eye(4, dtype=bool)})
      >>> small_dense(ticket, lambda n, key: ({"w": jnp.ones((n, n))}, None), key=jax.random.key(0)).params["w"].shape
      (2, 2)
    """
    width = widest(functools.partial(_parameters, init, key), masks.summary(ticket.params, ticket.mask).all.kept)
    params, state = init(width, key)
    return Ticket(params, filters.full_mask(params, where), ticket.step, state, meta=ticket.meta)


def widest(size: Callable[[int], int], most: int) -> int:
    """Return the largest width, from 1 up, whose size is at most `most`.

    It doubles and bisects, so `size` is called a few times.

    Args:
      size: width -> size, which grows without bound with the width.
      most: the largest size allowed.

    Returns:
      The width.

    Raises:
      InputError: width 1 is larger already, or sizes do not grow.

    Examples:
      >>> widest(lambda width: 784 * width + 10 * width, 10_000)
      12
    """
    if size(1) > most:
        raise InputError(f"width 1 has {size(1)} parameters, more than the {most} allowed; take a smaller network")
    fits, exceeds = 1, 2
    while size(exceeds) <= most:
        fits, exceeds = exceeds, 2 * exceeds
        if size(exceeds) <= size(fits):
            raise InputError(
                f"widths {fits} and {exceeds} have {size(fits)} and {size(exceeds)} parameters; sizes must grow"
            )
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        fits, exceeds = (middle, exceeds) if size(middle) <= most else (fits, middle)
    return fits


def _parameters(init: WidthInitFn, key: Key, width: int) -> int:
    params, _ = jax.eval_shape(functools.partial(init, width), key)
    sizes: list[Any] = [leaf.size for leaf in jax.tree.leaves(params)]
    return sum(sizes)
