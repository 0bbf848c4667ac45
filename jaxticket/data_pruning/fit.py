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
from jaxticket.loops.fit import STEPS_AT_A_TIME, driven
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
    that are not real. With `observe`, the state of the training is `Tracked(model state, statistics)`.

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
        return driven(
            begin,
            functools.partial(run, subset, stretch),
            per_epoch=-(-size // recipe.batch_size),
            at_a_time=at_a_time,
            identity=(subset, stretch),
            checkpoint=checkpoint,
            progress=progress,
            on_nan=on_nan,
        )

    return fit_on


# One step: (carry, step, data, rows of the epoch, subset, mask, key, shift, stretch) -> carry
StepFn = Callable[..., Progressing]
# Part of an epoch: (subset, stretch, carry, mask, key, shift, first, last) -> carry
RunFn = Callable[..., Progressing]


def _step(
    recipe: Recipe,
    observe: ObserveFn | None,
    carry: Progressing,
    at: jax.Array,
    *,
    data: PyTree,
    order: jax.Array,
    subset: jax.Array,
    mask: Mask,
    key: Key,
    shift: jax.Array,
    stretch: jax.Array,
) -> Progressing:
    rows = jax.lax.dynamic_slice_in_dim(order, (at % _per_epoch(recipe, subset)) * recipe.batch_size, recipe.batch_size)
    index = jnp.minimum(rows, recipe.examples - 1)
    batch = Batch(jax.tree.map(lambda x: x[index], data), index, rows < recipe.examples)
    noise, clock = recipe.noise(key, at), lambda count: (count + shift) * stretch
    if observe is None:
        return recipe.update(carry, batch, mask=mask, noise=noise, clock=clock)
    model, watched = carry.state
    seen = observe(carry.params, model, batch, noise)
    carry = recipe.update(carry._replace(state=model), batch, mask=mask, noise=noise, clock=clock)
    return carry._replace(state=Tracked(carry.state, statistics.update(watched, index, seen, real=batch.real)))


def _per_epoch(recipe: Recipe, subset: jax.Array) -> jax.Array:
    return -(-jnp.sum(subset, dtype=jnp.int32) // recipe.batch_size)


def _loop(recipe: Recipe, one: StepFn, carry: Progressing, first: Any, last: Any, **others: Any) -> Progressing:
    epoch = first // _per_epoch(recipe, others["subset"])
    order = epoch_rows(recipe, others["subset"], others["key"], epoch)
    return jax.lax.fori_loop(first, last, lambda at, carry: one(carry, at, order=order, **others), carry)


def _in_a_loop(recipe: Recipe, one: StepFn) -> RunFn:
    compiled = jax.jit(functools.partial(_loop, recipe, one), donate_argnames="carry")

    def run(
        subset: jax.Array, stretch: float, carry: Progressing, mask: Mask, key: Key, shift: int, first: int, last: int
    ) -> Progressing:
        others = {"data": recipe.data, "subset": subset, "mask": mask, "key": key, "shift": shift, "stretch": stretch}
        return compiled(carry=carry, first=first, last=last, **others)

    return run


def _step_by_step(recipe: Recipe, one: StepFn) -> RunFn:
    compiled = jax.jit(one, donate_argnames="carry")
    order_of = jax.jit(functools.partial(epoch_rows, recipe))

    def run(
        subset: jax.Array, stretch: float, carry: Progressing, mask: Mask, key: Key, shift: int, first: int, last: int
    ) -> Progressing:
        order = order_of(subset, key, first // -(-int(subset.sum()) // recipe.batch_size))
        others = {"data": recipe.data, "subset": subset, "mask": mask, "key": key, "shift": shift, "stretch": stretch}
        for at in range(first, last):
            carry = compiled(carry=carry, at=at, order=order, **others)
        return carry

    return run


def _side_by_side(recipe: Recipe, one: StepFn, placement: Placement) -> RunFn:
    def part(shared: PyTree, carry: Progressing, mask: Mask, key: Key, subset: jax.Array) -> Progressing:
        data, shift, stretch, first, last = shared
        others = {"data": data, "subset": subset, "mask": mask, "key": key, "shift": shift, "stretch": stretch}
        return _loop(recipe, one, carry, first, last, **others)

    everywhere = replicate(part, placement=placement)
    data = jax.device_put(recipe.data, NamedSharding(placement.mesh, PartitionSpec()))

    def run(
        subset: jax.Array, stretch: float, carry: Progressing, mask: Mask, key: Key, shift: int, first: int, last: int
    ) -> Progressing:
        return everywhere((data, shift, stretch, first, last), carry, mask, key, subset)

    return run


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
