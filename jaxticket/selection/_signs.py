"""Removal by sign: a part of the positive and a part of the negative weights, those closest to zero."""

import functools

import jax
import jax.numpy as jnp

from jaxticket import _tree, units
from jaxticket.scopes import Scope
from jaxticket.selection import _counting
from jaxticket.selection._select import count_living, drop_and_grow_counts, keep_after
from jaxticket.typing import Mask, Params, Scores

_UNIT = units.element()


@functools.partial(jax.jit, static_argnames="scope")
def exchange_by_sign(
    mask: Mask, weights: Params, grow: Scores, drop_fraction: float | jax.Array, *, scope: Scope
) -> tuple[Mask, Mask]:
    """Drop a fraction, rounded up, of the weights of each sign, and all zeros; grow as many weights elsewhere.

    Returns:
      The next mask, and the weights that were not dropped.
    """
    sizes = _tree.map_present(lambda m, w: jnp.abs(w), mask, weights)

    def keep_large(of_sign: Mask) -> Mask:
        keep = keep_after(count_living(of_sign, sizes, _UNIT, scope), drop_fraction, "up")
        return drop_and_grow_counts(of_sign, sizes, sizes, keep=keep, total=keep, unit=_UNIT, scope=scope)

    positive, negative = (
        _tree.map_present(lambda m, w, sign=sign: m & (sign * w > 0), mask, weights) for sign in (1, -1)
    )
    survivors = _tree.map_present(jnp.logical_or, keep_large(positive), keep_large(negative))
    keep, total = (count_living(m, sizes, _UNIT, scope) for m in (survivors, mask))
    keep = [_counting.minimum(k, t) for k, t in zip(keep, total, strict=True)]
    grown = drop_and_grow_counts(survivors, sizes, grow, keep=keep, total=total, unit=_UNIT, scope=scope)
    # A leaf without dead weights has nothing to exchange: it would only lose values.
    return tuple(_tree.map_present(lambda m, x: x | jnp.all(m), mask, x) for x in (grown, survivors))
