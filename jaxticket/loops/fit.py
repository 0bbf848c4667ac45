"""Loops that drive a recipe's steps: epoch by epoch, step by step, or a whole training as one function."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxticket.errors import InputError
from jaxticket.loops import nonfinite
from jaxticket.loops.level import ProgressFn
from jaxticket.loops.nonfinite import OnNan
from jaxticket.loops.recipe import Progressing, Recipe
from jaxticket.loops.replicate import Placement, replicate
from jaxticket.loops.step_checkpoint import StepCheckpoint
from jaxticket.loops.store import fingerprint
from jaxticket.tickets.ticket import Ticket
from jaxticket.typing import Key, Mask, Params, PyTree, Trained, TrainFn

STEPS_AT_A_TIME = 50  # of `step_fit`, between reports of progress


class Fitted(NamedTuple):
    """What `fit` returns: parameters, model state, optimizer state, and the mean loss of the last epoch."""

    params: Params
    state: PyTree
    opt_state: PyTree
    loss: Any  # a float, or one a replicate


class FitFn(Protocol):
    """Trains from `step` for `steps` more. It may donate parameters, model state and optimizer state."""

    def __call__(
        self, params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, steps: int, opt_state: PyTree | None
    ) -> Fitted: ...


class Looks(NamedTuple):
    """What is done between parts of a training, as `scan_fit` says."""

    checkpoint: StepCheckpoint | None
    progress: ProgressFn | None
    on_nan: OnNan


# Steps first … last − 1 of one epoch: (carry, mask, key, shift, first, last) -> carry
RunFn = Callable[[Progressing, Mask, Key, int, int, int], Progressing]


def scan_fit(
    recipe: Recipe,
    *,
    checkpoint: StepCheckpoint | None = None,
    progress: ProgressFn | None = None,
    on_nan: OnNan = "record",
) -> FitFn:
    """A `FitFn` that runs each epoch as one compiled loop: for dense models, and for any model on accelerators.

    Masks, keys, weights and steps are arguments of one compiled function, so no ticket, level or replicate compiles
    anew. A training that is interrupted goes on from its checkpoint to the same bits.

    Args:
      recipe: what a step is.
      checkpoint: where to save and find the state inside a long training, at ends of epochs.
      progress: called after each epoch with the step reached and the epoch's mean loss.
      on_nan: "stop" raises DivergedError at an end of an epoch where the loss or a weight is not finite, and saves no
        such state; "skip" looks at weights only, for a recipe of `nonfinite.skipping`; "record" goes on whatever comes.
    """

    @functools.partial(jax.jit, donate_argnames="carry")
    def run(
        data: PyTree, mask: Mask, key: Key, shift: int, first: int, last: int, *, carry: Progressing
    ) -> Progressing:
        return recipe.steps(carry, first, last, data=data, mask=mask, key=key, shift=shift)

    def epoch(carry: Progressing, mask: Mask, key: Key, shift: int, first: int, last: int) -> Progressing:
        return run(recipe.data, mask, key, shift, first, last, carry=carry)

    return driven(
        jax.jit(recipe.begin),
        epoch,
        per_epoch=recipe.steps_per_epoch,
        looks=Looks(checkpoint, progress, on_nan),
    )


def step_fit(
    recipe: Recipe,
    *,
    checkpoint: StepCheckpoint | None = None,
    progress: ProgressFn | None = None,
    on_nan: OnNan = "record",
) -> FitFn:
    """As `scan_fit`, but one compiled step a call: for convolutions on CPU, which XLA slows 14-fold inside loops.

    `checkpoint`, `progress` and `on_nan` are looked after every 50 steps.
    """
    order_of = jax.jit(recipe.order)

    @functools.partial(jax.jit, donate_argnames="carry")
    def one(at: int, *, carry: Progressing, **others: Any) -> Progressing:
        return recipe.step(carry, at, **others)

    def some(carry: Progressing, mask: Mask, key: Key, shift: int, first: int, last: int) -> Progressing:
        order = order_of(key, first // recipe.steps_per_epoch)
        for at in range(first, last):
            carry = one(at, carry=carry, data=recipe.data, order=order, mask=mask, key=key, shift=shift)
        return carry

    return driven(
        jax.jit(recipe.begin),
        some,
        per_epoch=recipe.steps_per_epoch,
        at_a_time=STEPS_AT_A_TIME,
        looks=Looks(checkpoint, progress, on_nan),
    )


def placed_fit(
    recipe: Recipe,
    *,
    placement: Placement,
    checkpoint: StepCheckpoint | None = None,
    progress: ProgressFn | None = None,
    on_nan: OnNan = "record",
) -> FitFn:
    """As `scan_fit`, for several replicates in one program: every array has a leading axis of replicates.

    That is so for parameters, states, masks and keys, and for what comes back; `step` and `steps` are the same for all.
    The losses come back as a list, and `progress` gets their mean. Raises InputError for a placement in sequence, which
    is `step_fit` for one replicate after the other.

    Args:
      placement: where the replicates run, as `place` chooses.

    >>> import optax
    >>> loss = lambda params, state, batch, key: (jnp.mean((batch @ params["w"] - 1) ** 2), state)
    >>> recipe = Recipe(loss=loss, data=jnp.ones((8, 2)), learning_rate=optax.constant_schedule(0.1), batch_size=4)
    >>> fit = placed_fit(recipe, placement=Placement(tuple(jax.devices()[:1]), "vmap", ""))
    >>> params, masks = {"w": jnp.zeros((3, 2))}, {"w": jnp.ones((3, 2), bool)}
    >>> fitted = fit(params, None, masks, jax.random.split(jax.random.key(0), 3), step=0, steps=2, opt_state=None)
    >>> fitted.params["w"].shape, len(fitted.loss)
    ((3, 2), 3)
    """
    if placement.each == "sequence":
        raise InputError("placement is in sequence; use step_fit, one replicate after the other")

    def steps(shared: PyTree, carry: Progressing, mask: Mask, key: Key) -> Progressing:
        data, shift, first, last = shared
        return recipe.steps(carry, first, last, data=data, mask=mask, key=key, shift=shift)

    everywhere = replicate(steps, placement=placement)
    data = jax.device_put(recipe.data, NamedSharding(placement.mesh, PartitionSpec()))

    def run(carry: Progressing, mask: Mask, key: Key, shift: int, first: int, last: int) -> Progressing:
        return everywhere((data, shift, first, last), carry, mask, key)

    return driven(
        jax.jit(jax.vmap(recipe.begin)),
        run,
        per_epoch=recipe.steps_per_epoch,
        looks=Looks(checkpoint, progress, on_nan),
    )


def scan_train(
    recipe: Recipe, *, steps: int, evaluate: Callable[[Params, PyTree], dict[str, Any]] | None = None
) -> TrainFn:
    """A `TrainFn` of arrays only, for `imp_scan` and `jax.vmap`: the whole training is one traceable loop.

    Metrics are scalars on the device: "loss", the mean training loss of the last epoch, and what
    evaluate(params, state) returns. Build the recipe inside the compiled function, from data that is an argument of
    it, or the data becomes a constant of the program. Raises InputError for a negative number of steps.
    """
    _check_steps(steps)
    per_epoch = recipe.steps_per_epoch

    def train(params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, opt_state: PyTree | None) -> Trained:
        end = step + steps
        others = {"data": recipe.data, "mask": mask, "key": key, "shift": step if opt_state is None else 0}

        def epoch(index: jax.Array, carry: Progressing) -> Progressing:
            first, last = jnp.maximum(step, index * per_epoch), jnp.minimum(end, (index + 1) * per_epoch)
            return recipe.steps(carry._replace(total=jnp.zeros(())), first, last, **others)

        epochs = (step // per_epoch, -(-end // per_epoch) if steps else step // per_epoch)
        carry = jax.lax.fori_loop(*epochs, epoch, recipe.begin(params, state, opt_state))
        in_last = end - max(step, (end - 1) // per_epoch * per_epoch)
        metrics = {} if evaluate is None else evaluate(carry.params, carry.state)
        return Trained(carry.params, carry.state, {"loss": carry.total / max(in_last, 1), **metrics})

    return train


def train_fn(fit: FitFn, *, steps: int, evaluate: Callable[[Params, PyTree], dict[str, Any]] | None = None) -> TrainFn:
    """The `TrainFn` that fits for `steps` steps from wherever the ticket starts, and then evaluates once.

    Metrics are Python floats: "loss", the mean training loss of the last epoch, and whatever scalars
    evaluate(params, state) returns. Raises InputError for a negative number of steps.
    """
    _check_steps(steps)

    def train(params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, opt_state: PyTree | None) -> Trained:
        fitted = fit(params, state, mask, key, step=step, steps=steps, opt_state=opt_state)
        metrics = {} if evaluate is None else evaluate(fitted.params, fitted.state)
        skipped = nonfinite.skipped(fitted.opt_state)
        counted = {} if skipped is None else {"skipped_steps": skipped}
        found = {"loss": fitted.loss, **counted, **metrics}
        return Trained(fitted.params, fitted.state, {name: float(value) for name, value in found.items()})

    return train


def driven(
    begin: Callable[[Params, PyTree, PyTree | None], Progressing],
    run: RunFn,
    *,
    per_epoch: int,
    at_a_time: int | None = None,
    identity: tuple[PyTree, ...] = (),
    looks: Looks,
) -> FitFn:
    """The `FitFn` that runs parts of epochs, with checkpoints and progress between them.

    Args:
      begin: makes the carry. run: the steps of a part: `at_a_time` of them, or all that are left of an epoch.
      identity: what the training depends on beside the arguments of the `FitFn`; checkpoints of others are not its own.
      looks: what is done between them.
    """
    longest = per_epoch if at_a_time is None else at_a_time
    checkpoint, progress, on_nan = looks

    def fit(
        params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, steps: int, opt_state: PyTree | None = None
    ) -> Fitted:
        # A restored optimizer counts on from the rewind point by itself; a fresh one must be told.
        shift = step if opt_state is None else 0
        end, at = step + steps, step
        origin = fingerprint(params, state, mask, key, opt_state, step, steps, *identity) if checkpoint else ""
        carry = begin(params, state, opt_state)
        mean_loss = np.zeros(carry.total.shape)
        like = Ticket(carry.params, mask, state=carry.state, opt_state=carry.opt_state)
        if checkpoint and (found := checkpoint.load(origin, like)):
            saved, values = found
            carry = Progressing(saved.params, saved.state, saved.opt_state, jnp.float32(values["total"]))
            at, mean_loss = saved.step, np.asarray(values["loss"])
        while at < end:
            epoch_start = at // per_epoch * per_epoch
            last = min(end, at + longest, epoch_start + per_epoch)
            if at == epoch_start:
                carry = carry._replace(total=jnp.zeros_like(carry.total))
            carry = run(carry, mask, key, shift, at, last)
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


def _check_steps(steps: int) -> None:
    if steps < 0:
        raise InputError(f"steps={steps} must not be negative")
