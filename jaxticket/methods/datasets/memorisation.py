"""Memorisation: the knowledge of an example that a network has only from training on it (Feldman & Zhang, 2020).

Many networks are trained, each on a random subset. An example is memorised as far as the networks that had it classify
it right and the others do not. It influences a test example as far as the result there depends on it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_array, check_count, check_key
from jaxticket.data_pruning import random_subset
from jaxticket.errors import InputError
from jaxticket.typing import Key

__all__ = ["draw_subsets", "influence", "memorisation"]


def draw_subsets(models: int, examples: int, size: int | float = 0.7, *, key: Key) -> jax.Array:
    """Draw the examples on which each model is trained, without replacement: (models, examples) bool.

    Args:
      models: the number of models; the paper takes thousands. They can be trained side by side: see `training.fit`.
      examples: the number of examples.
      size: the exact size of each subset: a count of examples (int), or a fraction of them; the paper takes 0.7.
      key: a typed PRNG key.

    Returns:
      The subsets.

    Raises:
      InputError: no models, no examples, or a size out of range.

    Examples:
      >>> draw_subsets(3, 10, key=jax.random.key(0)).sum(-1)
      Array([7, 7, 7], dtype=int32)
    """
    check_key("key", key)
    check_count(1, models=models)
    return jax.vmap(lambda key: random_subset(examples, size, key=key))(jax.random.split(key, int(models)))


def memorisation(correct: jax.Array, included: jax.Array, *, minimum: int = 1) -> jax.Array:
    """Return P(right | trained on it) − P(right | not trained on it) of each example, in [−1, 1]: higher = harder.

    Args:
      correct: (models, examples) bool, of the training examples, whether or not the model was trained on them.
      included: (models, examples) bool, as of `draw_subsets`.
      minimum: the models that must have had an example, and that must not, for its estimate. With 0, examples that all
        models had, or none, get NaN. In traced code all examples below the minimum do.

    Returns:
      (examples,) float32; an estimate from n models with it and m without has a standard error of about
      ½ √(1 / n + 1 / m) at most.

    Raises:
      InputError: other shapes or types, or an example, which is named, of fewer than `minimum` models with or without.

    Examples:
      >>> included = jnp.array([[True, True], [True, False], [False, True], [False, False]])
      >>> memorisation(jnp.array([[True, True], [True, True], [False, True], [False, True]]), included)
      Array([1., 0.], dtype=float32)
    """
    having = _count_having(included, minimum)
    _check_results("correct", correct, included)
    if correct.shape != included.shape:
        raise InputError(f"correct has shape {correct.shape}, but included {included.shape}; pass the same examples")
    right = jnp.sum(correct & included, 0)
    return _difference(right, jnp.sum(correct, 0), having, len(included), int(minimum))


def influence(correct_test: jax.Array, included: jax.Array, *, minimum: int = 1) -> jax.Array:
    """Return P(right on j | trained on i) − P(right on j | not trained on i), of training example i on test example j.

    Args:
      correct_test: (models, test) bool; a part of the test examples at a time, where the result is large.
      included: (models, examples) bool, as for `memorisation`, which is the influence of an example on itself.
      minimum: as for `memorisation`.

    Returns:
      (examples, test) float32.

    Raises:
      InputError: as `memorisation`.

    Examples:
      >>> influence(jnp.array([[True], [True], [False]]), jnp.array([[True, True], [True, False], [False, True]]))
      Array([[ 1. ],
             [-0.5]], dtype=float32)
    """
    having = _count_having(included, minimum)
    _check_results("correct_test", correct_test, included)
    # Counts, which float32 holds exactly for up to 16 million models.
    right = jnp.matmul(*(jnp.asarray(x, jnp.float32) for x in (included.T, correct_test)))
    return _difference(right, jnp.sum(correct_test, 0)[None], having[:, None], len(included), int(minimum))


@functools.partial(jax.jit, static_argnames=("models", "minimum"))
def _difference(right: jax.Array, right_in_all: jax.Array, having: jax.Array, models: int, minimum: int) -> jax.Array:
    """Return the part right of the models with an example, less that of the others; NaN where they are too few."""
    lacking = models - having
    rate = lambda count, of: count / jnp.maximum(of, 1)
    difference = rate(right, having) - rate(right_in_all - right, lacking)
    return jnp.where(jnp.minimum(having, lacking) >= max(minimum, 1), difference.astype(jnp.float32), jnp.nan)


def _count_having(included: jax.Array, minimum: int) -> jax.Array:
    """Return (examples,), the number of models that had each; checked."""
    _check_bools("included", included)
    check_count(0, minimum=minimum)
    models, having = len(included), jnp.sum(included, 0)
    least = jnp.minimum(having, models - having)
    if not isinstance(least, jax.core.Tracer) and int(least.min()) < minimum:
        at = int(least.argmin())
        raise InputError(
            f"included has example {at} in {int(having[at])} of {models} subsets, so that fewer than minimum={minimum} "
            "had it or did not have it; train more models, or pass minimum=0 to get NaN for such examples"
        )
    return having


def _check_results(name: str, correct: Any, included: jax.Array) -> None:
    _check_bools(name, correct)
    if len(correct) != len(included):
        raise InputError(f"{name} has {len(correct)} models, but included has {len(included)}; pass a row for each")


def _check_bools(name: str, array: Any) -> None:
    check_array(name, array, np.bool_)
    if array.ndim != 2 or not array.size:
        raise InputError(f"{name} has shape {array.shape}; pass (models, examples), at least one of each")
