"""Wrappers that make the scores of different leaves comparable, for `scopes.tree()`: ScoreFn -> ScoreFn."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket.typing import Mask, Params, ScoreFn, Scores


def lamp(score: ScoreFn) -> ScoreFn:
    """s² over the sum of s² of all weights of the leaf that rank no lower (Lee et al., 2021).

    Global pruning by it protects every leaf: the highest score of each is exactly 1, and scaling a leaf changes
    nothing. Within a leaf the order is that of |s|; of equal ones the lower flat index has the higher score. Weights
    that are dead (mask False, score 0 or NaN) get 0. In float32, None where the mask is None. Sorts each leaf: meant
    for leaves that fit on one device.

    >>> import jax.numpy as jnp
    >>> from jaxticket import scores
    >>> scored = lamp(scores.magnitude)({"w": jnp.array([1.0, 2.0, 3.0])})
    >>> [round(float(s), 4) for s in scored["w"]]  # 1/14, 4/13, 1
    [0.0714, 0.3077, 1.0]
    """
    return _by_leaf(score, _lamp)


def layer_mean(score: ScoreFn) -> ScoreFn:
    """s over the mean of |s| in its leaf: global pruning then compares weights with their layer's average.

    Only finite scores of weights that are alive are averaged, if a mask is given; every weight is scored (in float32,
    None where the mask is None). A leaf whose mean is zero gets zeros.

    >>> import jax.numpy as jnp
    >>> from jaxticket import scores
    >>> layer_mean(scores.magnitude)({"w": jnp.array([1.0, 3.0])})
    {'w': Array([0.5, 1.5], dtype=float32)}
    """
    return _by_leaf(score, _layer_mean)


def unit_norm(score: ScoreFn) -> ScoreFn:
    """s over the Euclidean norm of its leaf, as jaxpruner normalises before it prunes globally.

    Only finite scores of weights that are alive count in the norm, if a mask is given; every weight is scored (in
    float32, None where the mask is None). A leaf of norm zero gets zeros.

    >>> import jax.numpy as jnp
    >>> from jaxticket import scores
    >>> unit_norm(scores.magnitude)({"w": jnp.array([-3.0, 4.0])})
    {'w': Array([0.6, 0.8], dtype=float32)}
    """
    return _by_leaf(score, _unit_norm)


def _by_leaf(score: ScoreFn, normalise: Callable[[jax.Array, jax.Array], jax.Array]) -> ScoreFn:
    def normalised(params: Params, *, mask: Mask | None = None, **signals: Any) -> Scores:
        scores = score(params, mask=mask, **signals)
        if mask is None:
            mask = _tree.map_present(lambda s: jnp.ones((1,) * s.ndim, bool), scores)
        _tree.check_structure("mask", mask, "scores", scores)
        return _tree.map_present(
            lambda s, m: normalise(s.astype(jnp.float32), jnp.broadcast_to(m, s.shape)), scores, mask
        )

    return normalised


def _lamp(s: jax.Array, alive: jax.Array) -> jax.Array:
    # Divided by the largest first, so that squares of tiny gradients do not underflow.
    # Bounded (inf too), since XLA divides by multiplying with the reciprocal, which must not underflow either.
    size = jnp.where(alive & ~jnp.isnan(s), jnp.minimum(jnp.abs(s), 2.0**125), 0).ravel()
    size = _ratio(size, jnp.max(size, initial=0))
    order = jnp.argsort(size, descending=True, stable=True)
    square = jnp.square(size[order])
    # A parallel cumulative sum may decrease in the last bit; cummin keeps the order that exact sums would give.
    ranked = jax.lax.cummin(_ratio(square, jnp.cumsum(square)))
    return jnp.zeros_like(size).at[order].set(ranked, unique_indices=True).reshape(s.shape)


def _layer_mean(s: jax.Array, alive: jax.Array) -> jax.Array:
    scaled, counted = _scaled(s, alive)
    number = jnp.maximum(jnp.sum(counted, dtype=jnp.float32), 1)
    return _ratio(scaled, jnp.sum(jnp.abs(scaled), where=counted) / number)


def _unit_norm(s: jax.Array, alive: jax.Array) -> jax.Array:
    scaled, counted = _scaled(s, alive)
    return _ratio(scaled, jnp.sqrt(jnp.sum(jnp.square(scaled), where=counted)))


def _scaled(s: jax.Array, alive: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`s` divided by its largest counted size, so that sums of squares stay in range; and which entries count."""
    counted = alive & jnp.isfinite(s)
    return _ratio(s, jnp.max(jnp.abs(s), where=counted, initial=0)), counted


def _ratio(x: jax.Array, by: jax.Array) -> jax.Array:
    """x / by, and 0 where `by` is 0."""
    return jnp.where(by > 0, x / jnp.where(by > 0, by, 1), 0)
