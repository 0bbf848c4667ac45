"""The examples that a round leaves for the next one."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxticket import data_pruning, masks
from jaxticket._checks import check_count, check_fraction
from jaxticket.data_pruning import Statistics


class Outcome(NamedTuple):
    """The outcome of a round for the examples: `dense` and `sparse` are the classes that round 0 and it predict."""

    round: int
    statistics: Statistics
    dense: jax.Array  # (examples,) int32
    sparse: jax.Array  # (examples,) int32


def prac_set(
    outcome: Outcome, *, threshold: int = 0, size: int | None = None, minimum: float = 0.0, measure: str = "el2n"
) -> jax.Array:
    """Return the examples hard to memorise in this round, and from round 1 on those that its ticket sees differently.

    Hard are examples with more than `threshold` forgetting events. With a `size`, it is that many with the most events,
    and none for 0 (the published code then takes all). An example that was never seen is not hard.

    Args:
      outcome: the record of the examples.
      threshold: the most forgetting events of an example that is not hard.
      size: the number of hard examples, instead of the threshold.
      minimum: the fraction of all examples to keep at least, for data that are too easy. The set is filled up with
        those of the highest mean `measure` in this round.
      measure: the measure that fills up the set, which the statistics must then have.

    Returns:
      (examples,) bool.

    Raises:
      InputError: a negative threshold or size, or a minimum outside [0, 1].
    """
    check_count(0, threshold=threshold)
    check_fraction("minimum", minimum)
    subset = hard(outcome.statistics, threshold) if size is None else most_forgotten(outcome.statistics, size)
    if outcome.round > 0:
        subset = masks.union(subset, outcome.dense != outcome.sparse)
    least = math.ceil(minimum * len(subset))
    if int(subset.sum()) >= least:
        return subset
    order = data_pruning.means(outcome.statistics, measure)
    above = 1 + jnp.abs(order).max()
    return data_pruning.hardest(jnp.where(subset, above, order), least)


def hard(statistics: Statistics, threshold: int = 0) -> jax.Array:
    """Return the examples that were forgotten more than `threshold` times, or never learned: (examples,) bool.

    Args:
      statistics: the statistics of the round.
      threshold: the most forgetting events of an example that is not hard.

    Returns:
      (examples,) bool.
    """
    return data_pruning.forgetting(statistics) > threshold


def most_forgotten(statistics: Statistics, size: int) -> jax.Array:
    """Return the `size` examples with the most forgetting events among those seen; fewer if fewer were, none for 0.

    Args:
      statistics: the statistics of the round.
      size: the number of examples.

    Returns:
      (examples,) bool.

    Examples:
      >>> most_forgotten(data_pruning.init(4), 0).tolist()
      [False, False, False, False]
    """
    check_count(0, size=size)
    seen = statistics.seen > 0
    if not size:
        return jnp.zeros_like(seen)
    return seen & data_pruning.hardest(data_pruning.forgetting(statistics), min(size, len(seen)))
