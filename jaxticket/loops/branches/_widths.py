"""The control that has no mask at all: a narrower network of as many parameters."""

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
    """A dense network no larger than the ticket, from fresh weights: is sparsity better than being small?

    `init(width, key)` gives parameters and model state, with more parameters the larger the width. The widest network
    is taken that has at most as many parameters as the ticket keeps, those of leaves that are not sparsified included.
    Its mask is full on the leaves that `where` chooses; the step stays, the optimizer is fresh. The comparison of Zhu &
    Gupta, "To prune, or not to prune" (2017), "large-sparse" against "small-dense".

    Raises InputError if even width 1 has too many parameters, NoMatchError if `where` matches nothing.

    >>> import jax, jax.numpy as jnp
    >>> ticket = Ticket({"w": jnp.ones((4, 4))}, {"w": jnp.eye(4, dtype=bool)})
    >>> small_dense(ticket, lambda n, key: ({"w": jnp.ones((n, n))}, None), key=jax.random.key(0)).params["w"].shape
    (2, 2)
    """
    width = widest(functools.partial(_parameters, init, key), masks.summary(ticket.params, ticket.mask).all.kept)
    params, state = init(width, key)
    return Ticket(params, filters.full_mask(params, where), ticket.step, state, meta=ticket.meta)


def widest(size: Callable[[int], int], most: int) -> int:
    """The largest width, from 1 up, whose size is at most `most`, for sizes that grow without bound with the width.

    By doubling and bisection, so `size` is called a few times. Raises InputError if width 1 is larger already, or if
    sizes do not grow.

    >>> widest(lambda width: 784 * width + 10 * width, 10_000)
    12
    """
    if size(1) > most:
        raise InputError(f"width 1 has {size(1)} parameters, more than the {most} allowed; take a smaller network")
    fits, exceeds = 1, 2
    while size(exceeds) <= most:
        fits, exceeds = exceeds, 2 * exceeds
        if size(exceeds) <= size(fits):
            raise InputError(f"widths {fits} and {exceeds} have {size(fits)} and {size(exceeds)} parameters; must grow")
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        fits, exceeds = (middle, exceeds) if size(middle) <= most else (fits, middle)
    return fits


def _parameters(init: WidthInitFn, key: Key, width: int) -> int:
    params, _ = jax.eval_shape(functools.partial(init, width), key)
    sizes: list[Any] = [leaf.size for leaf in jax.tree.leaves(params)]
    return sum(sizes)
