"""Statistics of each example during a training: forgetting events, the step of learning, means of scores.

The statistics are arrays over the training examples that each step updates at the examples of its batch. They are part
of the training's state, so they compile, shard, batch over replicates, and resume with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxticket._checks import check_array, check_count
from jaxticket.errors import InputError
from jaxticket.typing import PyTree

NEVER_LEARNED = 200_000  # forgetting events of an example that was never right, as in the code of Zhang et al. (2021)
UNSEEN = -1


class Statistics(NamedTuple):
    """The statistics of each of (examples,): all are whole numbers but the sums."""

    step: jax.Array  # () int32: updates so far
    seen: jax.Array  # presentations
    correct: jax.Array  # presentations in which it was classified right
    right: jax.Array  # bool: whether it was, when it was last seen
    forgotten: jax.Array  # times that it was right when seen, and wrong when next seen
    first_learned: jax.Array  # the step in which it was first right, or −1
    sums: dict[str, jax.Array]  # float32: of the other measures, over presentations


class Tracked(NamedTuple):
    """The model state of a training whose examples are watched."""

    model: PyTree
    statistics: Statistics


def init(examples: int, measures: Sequence[str] = ()) -> Statistics:
    """Return statistics of examples of which none was seen.

    Args:
      examples: the number of examples.
      measures: the names of the measures beside being right, such as "el2n".

    Returns:
      Statistics.

    Raises:
      InputError: no examples, or the name "correct", which is always observed.

    Examples:
      >>> forgetting(init(2))
      Array([-1, -1], dtype=int32)
    """
    check_count(1, examples=examples)
    if isinstance(measures, str) or not all(isinstance(name, str) and name != "correct" for name in measures):
        raise InputError(f"measures={measures!r} must be names other than 'correct', such as ('el2n',)")
    zeros = lambda dtype: jnp.zeros(int(examples), dtype)
    counts = [zeros(jnp.int32) for _ in range(3)]
    never = zeros(jnp.int32) - 1
    sums = {name: zeros(jnp.float32) for name in measures}
    return Statistics(jnp.int32(0), counts[0], counts[1], zeros(bool), counts[2], never, sums)


def update(
    statistics: Statistics, index: jax.Array, observed: Mapping[str, jax.Array], *, real: jax.Array | None = None
) -> Statistics:
    """Return the statistics after one more step, in which the examples `index` were seen. Pure: for jit, vmap and any
    mesh.

    Args:
      statistics: the statistics before the step.
      index: (batch,) integers, different examples.
      observed: "correct", (batch,) bool, and a (batch,) number for each measure of the statistics.
      real: (batch,) bool, False for rows that only fill the batch; None for all.

    Returns:
      Statistics.

    Raises:
      InputError: an observation that is missing, of another name or of another shape.

    Examples:
      >>> statistics = init(2)
      >>> for right in (True, False, True, False, True):
      ...     statistics = update(statistics, jnp.array([0]), {"correct": jnp.array([right])})
      >>> forgetting(statistics)  # the second was never seen
      Array([ 2, -1], dtype=int32)
    """
    check_array("index", index, np.integer)
    _check_observed(statistics, index, observed)
    step, seen, correct, right, forgotten, first_learned, sums = statistics
    examples = len(seen)
    now = jnp.asarray(observed["correct"], bool)
    rows = jnp.clip(index, 0, examples - 1)
    # Rows that only fill the batch are sent past the end, where a scatter drops them.
    at = index if real is None else jnp.where(real, index, examples)
    add = lambda counts, values: counts.at[at].add(values.astype(counts.dtype), mode="drop")
    first = jnp.where(now & (first_learned[rows] < 0), step, first_learned[rows])
    return Statistics(
        step=optax.safe_increment(step),
        seen=add(seen, jnp.ones(len(index), jnp.int32)),
        correct=add(correct, now),
        right=right.at[at].set(now, mode="drop"),
        forgotten=add(forgotten, right[rows] & ~now),
        first_learned=first_learned.at[at].set(first, mode="drop"),
        sums={name: add(total, jnp.asarray(observed[name])) for name, total in sums.items()},
    )


def forgetting(statistics: Statistics) -> jax.Array:
    """Return the forgetting events of each example (Toneva et al., 2019): (examples,) int32, higher = harder.

    An event is a presentation in which the example is wrong, after it was right when last seen. The value is 200,000 if
    it was never right, −1 if it was never seen. For several trainings use `forgetting_over_runs`.
    """
    never = jnp.where(statistics.seen > 0, NEVER_LEARNED, UNSEEN)
    return jnp.where(statistics.correct > 0, statistics.forgotten, never).astype(jnp.int32)


def forgetting_over_runs(statistics: Statistics) -> jax.Array:
    """Return the forgetting events of each example, summed over several trainings (Toneva et al., 2019).

    A training in which the example was never right counts as its presentations there, not as a sentinel: an example
    that a single training missed does not rank above all others.

    Args:
      statistics: those of all trainings, stacked along a leading axis.

    Returns:
      (examples,) int32, higher = harder; −1 for examples that no training saw.

    Raises:
      InputError: statistics without a leading axis of runs.

    Examples:
      >>> runs = [init(1), init(1)]
      >>> for right in ([True, False], [False, False], [True, False]):
      ...     runs = [update(s, jnp.array([0]), {"correct": jnp.array([r])}) for s, r in zip(runs, right)]
      >>> forgetting_over_runs(jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs))  # 1 and 3
      Array([4], dtype=int32)
    """
    if statistics.seen.ndim != 2:
        raise InputError(f"statistics have counts of shape {statistics.seen.shape}; pass (runs, examples), stacked")
    events = jnp.where(statistics.correct > 0, statistics.forgotten, statistics.seen)
    return jnp.where(jnp.any(statistics.seen > 0, 0), jnp.sum(events, 0), UNSEEN).astype(jnp.int32)


def means(statistics: Statistics, measure: str) -> jax.Array:
    """Return the mean of a measure over the presentations of each example.

    Args:
      statistics: the statistics of a training.
      measure: the name of an observed measure.

    Returns:
      (examples,) float32, −1 for examples that were never seen.

    Raises:
      InputError: a measure that was not observed.

    Examples:
      >>> statistics = init(2, measures=["el2n"])
      >>> for value in (0.25, 0.75):
      ...     observed = {"correct": jnp.array([True]), "el2n": jnp.array([value])}
      ...     statistics = update(statistics, jnp.array([1]), observed)
      >>> means(statistics, "el2n")
      Array([-1. ,  0.5], dtype=float32)
    """
    if measure not in statistics.sums:
        raise InputError(f"measure={measure!r} was not observed; there are {sorted(statistics.sums)}")
    mean = statistics.sums[measure] / jnp.maximum(statistics.seen, 1)
    return jnp.where(statistics.seen > 0, mean, jnp.float32(UNSEEN))


def statistics_of(state: Any) -> Statistics:
    """Return the statistics inside a training's state. Raises InputError if the training was not watched."""
    if not isinstance(state, Tracked):
        raise InputError(f"state is a {type(state).__name__}, not Tracked; train with observe=")
    return state.statistics


def _check_observed(statistics: Statistics, index: jax.Array, observed: Any) -> None:
    wanted = {"correct", *statistics.sums}
    if not isinstance(observed, Mapping) or set(observed) != wanted:
        names = sorted(map(str, observed)) if isinstance(observed, Mapping) else type(observed).__name__
        raise InputError(f"observed has {names}, but the statistics need {sorted(wanted)}")
    for name, values in observed.items():
        if jnp.shape(values) != index.shape or jnp.ndim(index) != 1:
            raise InputError(
                f"observed[{name!r}] has shape {jnp.shape(values)}, index {index.shape}; pass one value for each"
            )
