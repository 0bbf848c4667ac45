"""Sums of scores."""

from typing import Any

import jax

from jaxticket import _tree
from jaxticket._checks import check_number
from jaxticket._dtypes import wide
from jaxticket.errors import InputError
from jaxticket.typing import Params, ScoreFn, Scores


def weighted_sum(*terms: tuple[ScoreFn, float]) -> ScoreFn:
    """Add weight · score over the (score, weight) pairs; all see the same signals.

    MEST drops by |w| + λ |g| (Yuan et al., 2021). The sum is None where one of the scores is. Raises InputError without
    a pair.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import scores
      >>> both = weighted_sum((scores.magnitude, 1.0), (scores.gradient, 0.5))
      >>> both({"w": jnp.array([1.0, -2.0])}, grads={"w": jnp.array([4.0, 0.0])})
      {'w': Array([3., 2.], dtype=float32)}
    """
    if not terms:
        raise InputError("weighted_sum() needs at least one pair (score, weight).")
    for _, weight in terms:
        check_number(weight=weight)

    def score(params: Params, **signals: Any) -> Scores:
        weighted = [_tree.map_present(lambda s, w=w: w * wide(s), f(params, **signals)) for f, w in terms]
        total, *others = weighted
        for other in others:
            total = _tree.map_present(jax.lax.add, total, other)
        return total

    return score
