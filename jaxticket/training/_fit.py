"""The one function that drives a recipe's steps, for one ticket or many replicates, on all examples or a subset."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxticket.errors import InputError
from jaxticket.tickets._step_checkpoint import StepCheckpoint
from jaxticket.tickets._store import fingerprint
from jaxticket.tickets._ticket import Ticket
from jaxticket.training import nonfinite
from jaxticket.training._placement import Placement, place, replicate
from jaxticket.training._recipe import Part, Progressing, Recipe, Steps, on_all_examples
from jaxticket.training._subsets import ObserveFn, on_a_subset, steps_per_epoch
from jaxticket.training.nonfinite import OnNan
from jaxticket.typing import Key, Mask, Params, ProgressFn, PyTree

STEPS_AT_A_TIME = 50  # of a training that runs step by step, between two checks

BeginFn = Callable[[Params, PyTree, PyTree | None], Progressing]
RunFn = Callable[[Progressing, Part], Progressing]


class Fitted(NamedTuple):
    """The result of `fit`: parameters, model state, optimizer state, and the mean loss of the last epoch."""

    params: Params
    state: PyTree
    opt_state: PyTree
    loss: Any  # a float, or a list of one for each replicate


class FitFn(Protocol):
    """Train from `step` for `steps` more. It may donate parameters, model state and optimizer state.

    `subset`, (examples,) bool, or (replicates, examples) with as many examples in all of them, trains on these examples
    alone; the loss then gets a `Batch`. `stretch` is the number of steps of the learning-rate schedule that pass in a
    step of such a training: T / t runs a schedule of T steps in t.
    """

    def __call__(
        self,
        params: Params,
        state: PyTree,
        mask: Mask,
        key: Key,
        *,
        step: int,
        steps: int,
        opt_state: PyTree | None = None,
        subset: jax.Array | None = None,
        stretch: float = 1.0,
    ) -> Fitted: ...


class _Hooks(NamedTuple):
    """The checkpoint, the progress and the check that come between parts of a training."""

    checkpoint: StepCheckpoint | None
    progress: ProgressFn | None
    on_nan: OnNan


def fit(
    recipe: Recipe,
    *,
    placement: Placement | None = None,
    observe: ObserveFn | None = None,
    checkpoint: StepCheckpoint | None = None,
    progress: ProgressFn | None = None,
    on_nan: OnNan = "record",
) -> FitFn:
    """Return a `FitFn` that trains by this recipe, with programs that compile once for all tickets, levels and subsets.

    Masks, keys, weights, steps and subsets are arguments of the compiled functions. A training that is interrupted
    resumes from its checkpoint to the same bits.

    On a subset an epoch is ⌈size / batch⌉ steps and shows each example of the subset once. The last batch is filled up
    with rows that are not real: the epoch's first, which count for batch statistics alone.

    Args:
      recipe: the loss, data and optimizer of a step. For subsets its loss gets a `Batch` and takes the `mean` over its
        real rows.
      placement: None trains one ticket: each epoch as one compiled loop, but step by step where that is faster
        (convolutions on CPU, which XLA slows 14-fold inside loops). A placement in sequence trains one ticket, step by
        step. Any other trains several replicates in one program: every array, also of the results, has a leading axis
        of replicates; `step` and `steps` are the same for all; losses come back as a list, and `progress` gets their
        mean.
      observe: a function that sees each batch of a subset with the weights before its step. The state of the training
        is then `Tracked(model state, statistics)`.
      checkpoint: the place to save and load the state inside a long training, at ends of epochs or every 50 steps.
      progress: called after each epoch, or every 50 steps, with the step reached and the epoch's mean loss.
      on_nan: "stop" raises DivergedError where the loss or a weight is not finite, and saves no such state; "skip"
        checks the weights only, for a recipe of `nonfinite.skip`; "record" always continues.

    Returns:
      The `FitFn`. It raises InputError for a subset that is empty, of another shape or of several sizes.

    Raises:
      InputError: `observe` with `reduction="fixed"`, which splits batches that are full only without a subset.

    Examples:
      >>> import optax
      >>> loss = lambda params, state, batch, key: (jnp.mean((batch @ params["w"] - 1) ** 2), state)
      >>> recipe = Recipe(loss=loss, data=jnp.ones((8, 2)), learning_rate=optax.constant_schedule(0.1), batch_size=4)
      >>> side_by_side = fit(recipe, placement=Placement(tuple(jax.devices()[:1]), "vmap", ""))
      >>> params, masks = {"w": jnp.zeros((3, 2))}, {"w": jnp.ones((3, 2), bool)}
      >>> fitted = side_by_side(params, None, masks, jax.random.split(jax.random.key(0), 3), step=0, steps=2)
      >>> fitted.params["w"].shape, len(fitted.loss)
      ((3, 2), 3)
    """
    if observe is not None:
        _check_reduction(recipe)
    together = placement if placement is not None and placement.batching != "sequence" else None
    stacked, data = together is not None, recipe.data
    if together is not None:  # once, for both kinds of steps
        data = jax.device_put(data, NamedSharding(together.mesh, PartitionSpec()))
    hooks = _Hooks(checkpoint, progress, on_nan)
    begin = jax.jit(jax.vmap(recipe.begin) if stacked else recipe.begin)
    on_all, on_some = (
        _programs(steps, data, placement) for steps in (on_all_examples(recipe), on_a_subset(recipe, observe))
    )

    def train(
        params: Params, state: PyTree, mask: Mask, key: Key, *, subset: jax.Array | None = None, **others: Any
    ) -> Fitted:
        if subset is not None:
            _check_reduction(recipe)
        run, at_a_time = (on_all if subset is None else on_some)(params)
        drive = _drive(recipe, begin, run, stacked=stacked, at_a_time=at_a_time, hooks=hooks)
        return drive(params, state, mask, key, subset=subset, **others)

    return train


def _check_reduction(recipe: Recipe) -> None:
    if recipe.reduction == "fixed":
        raise InputError('reduction="fixed" splits batches, the last of which is not full; use "any" with subsets')


def _programs(steps: Steps, data: PyTree, placement: Placement | None) -> Callable[[Params], tuple[RunFn, int | None]]:
    """Return parameters -> the function that runs a part of an epoch, and its steps; None is the whole epoch."""
    if placement is not None and placement.batching != "sequence":
        together = _side_by_side(steps, data, placement)
        return lambda params: (together, None)
    loop, one_by_one = _in_a_loop(steps, data), _step_by_step(steps, data)

    def choose(params: Params) -> tuple[RunFn, int | None]:
        in_sequence = placement is not None or place(params, 1).batching == "sequence"
        return (one_by_one, STEPS_AT_A_TIME) if in_sequence else (loop, None)

    return choose


def run_part(steps: Steps, carry: Progressing, data: PyTree, part: Part) -> Progressing:
    """Return the carry after the steps of a part, as one compiled loop."""
    order = steps.order(part)
    return jax.lax.fori_loop(part.first, part.last, lambda at, carry: steps.step(carry, at, order, data, part), carry)


def _in_a_loop(steps: Steps, data: PyTree) -> RunFn:
    compiled = jax.jit(functools.partial(run_part, steps), donate_argnums=0)
    return lambda carry, part: compiled(carry, data, part)


def _step_by_step(steps: Steps, data: PyTree) -> RunFn:
    compiled, order_of = jax.jit(steps.step, donate_argnums=0), jax.jit(steps.order)

    def run(carry: Progressing, part: Part) -> Progressing:
        order = order_of(part)
        for at in range(part.first, part.last):
            carry = compiled(carry, at, order, data, part)
        return carry

    return run


def _side_by_side(steps: Steps, data: PyTree, placement: Placement) -> RunFn:
    def train(shared: PyTree, carry: Progressing, *own: Any) -> Progressing:
        data, common = shared
        return run_part(steps, carry, data, Part(*own, *common))

    everywhere = replicate(train, placement=placement)
    # The mask, the key and the subset are a replicate's own; the other fields are the same for all.
    return lambda carry, part: everywhere((data, part[3:]), carry, *part[:3])


def _drive(recipe: Recipe, begin: BeginFn, run: RunFn, *, stacked: bool, at_a_time: int | None, hooks: _Hooks) -> FitFn:
    """Return the `FitFn` that runs parts of epochs, `at_a_time` steps or whole ones, and calls the hooks after each."""
    checkpoint, progress, on_nan = hooks

    def fit(
        params: Params,
        state: PyTree,
        mask: Mask,
        key: Key,
        *,
        step: int,
        steps: int,
        opt_state: PyTree | None = None,
        subset: jax.Array | None = None,
        stretch: float = 1.0,
    ) -> Fitted:
        per_epoch = steps_per_epoch(recipe, subset, stacked=stacked)
        longest = at_a_time or per_epoch
        identity = () if subset is None else (subset, stretch)
        # A restored optimizer continues its count from the rewind point; a fresh one counts from 0.
        shift = step if opt_state is None else 0
        end, at = step + steps, step
        origin = fingerprint(params, state, mask, key, opt_state, step, steps, *identity) if checkpoint else ""
        carry = begin(params, state, opt_state)
        mean_loss = np.zeros(carry.total.shape)
        like = Ticket(carry.params, mask, state=carry.state, opt_state=carry.opt_state)
        if checkpoint and (restored := checkpoint.load(origin, like)):
            saved, values = restored
            carry = Progressing(
                saved.params, saved.state, saved.opt_state, jnp.asarray(values["total"], carry.total.dtype)
            )
            at, mean_loss = saved.step, np.asarray(values["loss"])
        while at < end:
            epoch_start = at // per_epoch * per_epoch
            last = min(end, at + longest, epoch_start + per_epoch)
            if at == epoch_start:
                carry = carry._replace(total=jnp.zeros_like(carry.total))
            carry = run(carry, Part(mask, key, subset, shift, stretch, at, last))
            at, total = last, np.asarray(carry.total, np.float64)
            mean_loss = total / (at - max(step, epoch_start))
            nonfinite.check(carry.params, mean_loss, at=at, on_nan=on_nan)
            if checkpoint and checkpoint.due():
                reached = Ticket(carry.params, mask, at, carry.state, carry.opt_state)
                checkpoint.save(origin, reached, {"loss": mean_loss.tolist(), "total": total.tolist()})
            if progress:
                progress(at, float(mean_loss.mean()))
        return Fitted(carry.params, carry.state, carry.opt_state, mean_loss.tolist())

    return fit
