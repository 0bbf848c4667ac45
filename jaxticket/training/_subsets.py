"""Steps on a subset of the examples, with batches of one shape, so that no subset compiles again."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_array
from jaxticket.data_pruning import Tracked, update
from jaxticket.errors import InputError
from jaxticket.training._recipe import Part, Progressing, Recipe, Steps
from jaxticket.typing import Key, LogitsFn, Params, PyTree


class Batch(NamedTuple):
    """The batch of a subset that the loss gets."""

    examples: PyTree  # rows of the recipe's data
    index: jax.Array  # type: ignore[assignment]  # (batch,) int32: which rows; the field, not the method of tuples
    real: jax.Array  # (batch,) bool: False where a row only fills the batch, and must not count


MeasureFn = Callable[[jax.Array, jax.Array], jax.Array]  # (batch, classes) logits, (batch,) labels -> (batch,)
# observe(params, model state, batch, key) -> {"correct": (batch,) bool, measure: (batch,)}
ObserveFn = Callable[[Params, PyTree, Batch, Key], Mapping[str, jax.Array]]


def mean(values: jax.Array, real: jax.Array) -> jax.Array:
    """Return the mean of (batch,) values over the rows that are real, as the loss of a batch must.

    Args:
      values: (batch,) values.
      real: (batch,) bool: False where a row only fills the batch.

    Returns:
      A scalar.

    Examples:
      >>> mean(jnp.array([1.0, 3.0, 50.0]), jnp.array([True, True, False]))
      Array(2., dtype=float32)
    """
    return jnp.sum(jnp.where(real, values, 0)) / jnp.maximum(jnp.sum(real), 1)


def observer(
    logits: LogitsFn, *, labels: Callable[[PyTree], jax.Array], measures: Mapping[str, MeasureFn] | None = None
) -> ObserveFn:
    """Return a function that records whether examples are classified right, and measures of their logits.

    Args:
      logits: (params, model state, batch, key) -> logits, new state, with the batch and key that the loss gets: in
        training mode and augmented as there, XLA computes both once.
      labels: rows of the data -> (batch,) classes.
      measures: functions by name, such as {"el2n": data_pruning.el2n}.

    Returns:
      The `observe` of `fit`.
    """

    def observe(params: Params, state: PyTree, batch: Batch, key: Key) -> dict[str, jax.Array]:
        outputs, _ = logits(params, state, batch, key)
        classes = labels(batch.examples)
        others = {name: measure(outputs, classes) for name, measure in (measures or {}).items()}
        return {"correct": jnp.argmax(outputs, -1) == classes, **others}

    return observe


def epoch_rows(recipe: Recipe, subset: jax.Array, epoch: int | jax.Array, *, key: Key) -> jax.Array:
    """Return the examples of a subset in the order of an epoch, padded: (⌈examples / batch⌉ · batch,) int32.

    The padding after the subset is the number of examples, which is not a row. With all examples it is the order of
    `recipe.order`.

    Args:
      recipe: the recipe.
      subset: (examples,) bool.
      epoch: the number of the epoch, from 0.
      key: the key of the training.

    Returns:
      The rows.
    """
    order = recipe.order(epoch, key=key)
    (kept,) = jnp.nonzero(subset[order], size=recipe.examples, fill_value=recipe.examples)
    order = jnp.append(order, jnp.int32(recipe.examples))[kept]
    return jnp.pad(order, (0, -len(order) % recipe.batch_size), constant_values=recipe.examples)


def on_a_subset(recipe: Recipe, observe: ObserveFn | None) -> Steps:
    """Return the steps on the examples of a subset, whose loss gets a `Batch`; `observe` sees it before the step."""

    def order(part: Part) -> jax.Array:
        return epoch_rows(recipe, _kept(part), part.first // _per_epoch(recipe, part), key=part.key)

    def step(carry: Progressing, at: Any, order: jax.Array, data: PyTree, part: Part) -> Progressing:
        start = (at % _per_epoch(recipe, part)) * recipe.batch_size
        rows = jax.lax.dynamic_slice_in_dim(order, start, recipe.batch_size)
        # Other examples of the subset fill the last batch, so that its batch statistics are those of examples.
        places = (start + jnp.arange(recipe.batch_size)) % jnp.sum(_kept(part), dtype=jnp.int32)
        index = order[places]
        batch = Batch(jax.tree.map(lambda x: x[index], data), index, rows < recipe.examples)
        noise = recipe.noise(at, key=part.key)
        clock = lambda count: (count + part.shift) * part.stretch
        if observe is None:
            return recipe.update(carry, batch, mask=part.mask, noise=noise, clock=clock)
        model, watched = carry.state
        seen = observe(carry.params, model, batch, noise)
        carry = recipe.update(carry._replace(state=model), batch, mask=part.mask, noise=noise, clock=clock)
        return carry._replace(state=Tracked(carry.state, update(watched, index, seen, real=batch.real)))

    return Steps(order, step)


def steps_per_epoch(recipe: Recipe, subset: jax.Array | None, *, stacked: bool) -> int:
    """Return the whole batches of all examples, or as many as show each example of a subset once."""
    if subset is None:
        return recipe.steps_per_epoch
    return -(-size_of(subset, recipe.examples, stacked=stacked) // recipe.batch_size)


def _kept(part: Part) -> jax.Array:
    assert part.subset is not None  # for the type checker: these steps are those of a subset
    return part.subset


def _per_epoch(recipe: Recipe, part: Part) -> jax.Array:
    return -(-jnp.sum(_kept(part), dtype=jnp.int32) // recipe.batch_size)


def size_of(subset: Any, examples: int, *, stacked: bool = False) -> int:
    """Return the number of examples in a subset, or in each of several. Raises InputError for an unusable subset."""
    check_array("subset", subset, np.bool_)
    shape = ("replicates", examples) if stacked else (examples,)
    if subset.ndim != len(shape) or subset.shape[-1] != examples:
        raise InputError(f"subset has shape {subset.shape}, but must be {shape}, a bool for each example")
    sizes = {int(size) for size in np.asarray(subset).sum(-1).ravel()}
    if len(sizes) != 1 or not min(sizes):
        raise InputError(f"subset keeps {sorted(sizes)} examples; keep at least one, and as many in all replicates")
    return sizes.pop()
