"""Training on a subset, with batches of one shape, so that no subset compiles anew."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxticket import _tree
from jaxticket.data_pruning import statistics
from jaxticket.data_pruning.statistics import Tracked
from jaxticket.errors import InputError
from jaxticket.loops import FitFn, Placement, ProgressFn, Recipe, StepCheckpoint, replicate
from jaxticket.loops.distillation import LogitsFn
from jaxticket.loops.fit import STEPS_AT_A_TIME, Looks, driven
from jaxticket.loops.nonfinite import OnNan
from jaxticket.loops.recipe import Progressing
from jaxticket.typing import Key, Mask, Params, PyTree


class Batch(NamedTuple):
    """What the loss gets of a subset."""

    examples: PyTree  # rows of the recipe's data
    index: jax.Array  # type: ignore[assignment]  # (batch,) int32: which rows; the field, not the method of tuples
    real: jax.Array  # (batch,) bool: False where a row only fills the batch, and must not count


MeasureFn = Callable[[jax.Array, jax.Array], jax.Array]  # (batch, classes) logits, (batch,) labels -> (batch,)
# observe(params, model state, batch, key) -> {"correct": (batch,) bool, measure: (batch,)}
ObserveFn = Callable[[Params, PyTree, Batch, Key], Mapping[str, jax.Array]]


class SubsetFit(Protocol):
    """Training on a subset: (examples,) bool, or with replicates (replicates, examples), all of one size.

    `stretch` is how many steps of the learning-rate schedule pass in a step: T / t runs a schedule of T steps in t.
    """

    def __call__(self, subset: jax.Array, *, stretch: float = 1.0) -> FitFn: ...


def mean(values: jax.Array, real: jax.Array) -> jax.Array:
    """The mean of (batch,) values over the rows that are real: what the loss of a batch must be.

    >>> mean(jnp.array([1.0, 3.0, 50.0]), jnp.array([True, True, False]))
    Array(2., dtype=float32)
    """
    return jnp.sum(jnp.where(real, values, 0)) / jnp.maximum(jnp.sum(real), 1)


def observer(
    logits: LogitsFn, *, labels: Callable[[PyTree], jax.Array], measures: Mapping[str, MeasureFn] | None = None
) -> ObserveFn:
    """Watches whether examples are classified right, and measures of their logits.

    Args:
      logits: (params, model state, batch, key) -> logits, new state, with the batch and key that the loss gets: in
        training mode and augmented as there, XLA computes both once.
      labels: rows of the data -> (batch,) classes. measures: such as {"el2n": data_pruning.el2n}.
    """

    def observe(params: Params, state: PyTree, batch: Batch, key: Key) -> dict[str, jax.Array]:
        found, _ = logits(params, state, batch, key)
        classes = labels(batch.examples)
        others = {name: measure(found, classes) for name, measure in (measures or {}).items()}
        return {"correct": jnp.argmax(found, -1) == classes, **others}

    return observe


def epoch_rows(recipe: Recipe, subset: jax.Array, key: Key, epoch: int | jax.Array) -> jax.Array:
    """The examples of a subset in the order of an epoch, padded: (⌈examples / batch⌉ · batch,) int32.

    What follows the subset is the number of examples, which is no row. With all examples, the order of `recipe.order`.
    """
    order = recipe.order(key, epoch)
    (kept,) = jnp.nonzero(subset[order], size=recipe.examples, fill_value=recipe.examples)
    order = jnp.append(order, jnp.int32(recipe.examples))[kept]
    return jnp.pad(order, (0, -len(order) % recipe.batch_size), constant_values=recipe.examples)


def subset_fit(
    recipe: Recipe,
    *,
    observe: ObserveFn | None = None,
    placement: Placement | None = None,
    checkpoint: StepCheckpoint | None = None,
    progress: ProgressFn | None = None,
    on_nan: OnNan = "record",
) -> SubsetFit:
    """Trains on any subset of the recipe's examples by programs that compile once.

    An epoch is ⌈size / batch⌉ steps and shows each example of the subset once; the last batch is filled up with rows
    that are not real: the epoch's first, which count for batch statistics alone. With `observe`, the state of the
    training is `Tracked(model state, statistics)`.

    Args:
      recipe: its loss gets a `Batch` and takes `mean` over what is real.
      observe: watches each batch, with the weights before its step.
      placement: None trains alone, in a compiled loop; a sequence alone, step by step (convolutions on CPU); others
        train replicates, whose arrays all have a leading axis, as `loops.placed_fit` does.
      checkpoint, progress, on_nan: as of `loops.scan_fit`.

    Returns:
      subset -> a `FitFn`. Raises InputError for a subset that is empty, of another shape, or of several sizes.
    """
    if recipe.reduction == "fixed":
        raise InputError('reduction="fixed" splits batches, the last of which is not full; use "any" with subsets')
    one = functools.partial(_step, recipe, observe)
    stacked = placement is not None and placement.each != "sequence"
    if placement is None:
        run = _in_a_loop(recipe, one)
    else:
        run = _side_by_side(recipe, one, placement) if stacked else _step_by_step(recipe, one)
    begin = jax.jit(jax.vmap(recipe.begin) if stacked else recipe.begin)
    at_a_time = STEPS_AT_A_TIME if placement is not None and not stacked else None

    def fit_on(subset: jax.Array, *, stretch: float = 1.0) -> FitFn:
        size = size_of(subset, recipe.examples, stacked=stacked)

        def some(carry: Progressing, mask: Mask, key: Key, shift: int, first: int, last: int) -> Progressing:
            return run(carry, _Part(mask, key, subset, shift, stretch, first, last))

        return driven(
            begin,
            some,
            per_epoch=-(-size // recipe.batch_size),
            at_a_time=at_a_time,
            identity=(subset, stretch),
            looks=Looks(checkpoint, progress, on_nan),
        )

    return fit_on


class _Part(NamedTuple):
    """What is trained on what, and which steps of an epoch."""

    mask: Mask
    key: Key
    subset: jax.Array
    shift: Any  # the step at which a fresh optimizer began
    stretch: Any
    first: Any
    last: Any


RunFn = Callable[[Progressing, _Part], Progressing]
# One step: (carry, its number, rows of the epoch, data, part) -> carry
StepFn = Callable[[Progressing, Any, jax.Array, PyTree, _Part], Progressing]


def _step(
    recipe: Recipe,
    observe: ObserveFn | None,
    carry: Progressing,
    at: Any,
    order: jax.Array,
    data: PyTree,
    part: _Part,
) -> Progressing:
    first_row = (at % _per_epoch(recipe, part.subset)) * recipe.batch_size
    rows = jax.lax.dynamic_slice_in_dim(order, first_row, recipe.batch_size)
    # What fills the last batch are other examples of the subset, so that its batch statistics are those of examples.
    places = (first_row + jnp.arange(recipe.batch_size)) % jnp.sum(part.subset, dtype=jnp.int32)
    index = order[places]
    batch = Batch(jax.tree.map(lambda x: x[index], data), index, rows < recipe.examples)
    noise = recipe.noise(part.key, at)
    update = functools.partial(
        recipe.update, batch=batch, mask=part.mask, noise=noise, clock=lambda count: (count + part.shift) * part.stretch
    )
    if observe is None:
        return update(carry)
    model, watched = carry.state
    seen = observe(carry.params, model, batch, noise)
    carry = update(carry._replace(state=model))
    return carry._replace(state=Tracked(carry.state, statistics.update(watched, index, seen, real=batch.real)))


def _per_epoch(recipe: Recipe, subset: jax.Array) -> jax.Array:
    return -(-jnp.sum(subset, dtype=jnp.int32) // recipe.batch_size)


def _order(recipe: Recipe, part: _Part) -> jax.Array:
    return epoch_rows(recipe, part.subset, part.key, part.first // _per_epoch(recipe, part.subset))


def _loop(recipe: Recipe, one: StepFn, carry: Progressing, data: PyTree, part: _Part) -> Progressing:
    order = _order(recipe, part)
    return jax.lax.fori_loop(part.first, part.last, lambda at, carry: one(carry, at, order, data, part), carry)


def _in_a_loop(recipe: Recipe, one: StepFn) -> RunFn:
    compiled = jax.jit(functools.partial(_loop, recipe, one), donate_argnums=0)
    return lambda carry, part: compiled(carry, recipe.data, part)


def _step_by_step(recipe: Recipe, one: StepFn) -> RunFn:
    compiled = jax.jit(one, donate_argnums=0)
    order_of = jax.jit(functools.partial(_order, recipe))

    def run(carry: Progressing, part: _Part) -> Progressing:
        order = order_of(part)
        for at in range(part.first, part.last):
            carry = compiled(carry, at, order, recipe.data, part)
        return carry

    return run


def _side_by_side(recipe: Recipe, one: StepFn, placement: Placement) -> RunFn:
    def each(shared: PyTree, carry: Progressing, *own: Any) -> Progressing:
        data, steps = shared
        return _loop(recipe, one, carry, data, _Part(*own, *steps))

    everywhere = replicate(each, placement=placement)
    data = jax.device_put(recipe.data, NamedSharding(placement.mesh, PartitionSpec()))
    return lambda carry, part: everywhere((data, part[3:]), carry, *part[:3])


def size_of(subset: Any, examples: int, *, stacked: bool = False) -> int:
    """How many examples a subset keeps, or each of several. Raises InputError for what cannot be trained on."""
    _tree.check_array("subset", subset, np.bool_)
    shape = ("replicates", examples) if stacked else (examples,)
    if subset.ndim != len(shape) or subset.shape[-1] != examples:
        raise InputError(f"subset has shape {subset.shape}, but must be {shape}, a bool for each example")
    sizes = {int(size) for size in np.asarray(subset).sum(-1).ravel()}
    if len(sizes) != 1 or not min(sizes):
        raise InputError(f"subset keeps {sorted(sizes)} examples; keep at least one, and as many in all replicates")
    return sizes.pop()
