"""Training on data that lies on the device: an epoch is one compiled loop, compiled once for every ticket."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from jaxticket.errors import InputError
from jaxticket.loops.level import LossFn, ProgressFn
from jaxticket.loops.store import StepCheckpoint, fingerprint
from jaxticket.masks import apply_mask
from jaxticket.tickets.ticket import Ticket
from jaxticket.typing import Key, Mask, Params, PyTree, Schedule, Trained, TrainFn


class Fitted(NamedTuple):
    """What `fit` returns: parameters, model state, optimizer state, and the mean loss of the last epoch."""

    params: Params
    state: PyTree
    opt_state: PyTree
    loss: float


class FitFn(Protocol):
    """Trains from `step` for `steps` more. It may donate parameters, model state and optimizer state."""

    def __call__(
        self, params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, steps: int, opt_state: PyTree | None
    ) -> Fitted: ...


def scan_fit(
    loss: LossFn,
    data: PyTree,
    *,
    learning_rate: Schedule,
    batch_size: int,
    optimizer: Callable[[Schedule], optax.GradientTransformation] = optax.adam,
    checkpoint: StepCheckpoint | None = None,
    progress: ProgressFn | None = None,
) -> FitFn:
    """A `FitFn` that runs each epoch as one compiled loop: fast for dense models and on accelerators.

    Gradients are masked before the optimizer sees them, parameters after each update, so that masked weights stay
    exact zeros. The order of the examples derives from (key, epoch) and what is random in the loss from (key, step):
    a training interrupted at any epoch ends in the same bits. Masks, keys, weights and steps are arguments of one
    compiled function, so no ticket, level or replicate compiles anew.

    Args:
      loss: loss(params, state, batch, key) -> (mean loss, new state).
      data: pytree of arrays with the examples on the first axis; what is left of an epoch's last batch is dropped.
      learning_rate: schedule over the training's steps. A fresh optimizer that starts at step k sees it from k on.
      batch_size: examples a step.
      optimizer: schedule -> optax transform, such as optax.adam, or a functools.partial with more arguments.
      checkpoint: where to save and find the state inside a long training, at ends of epochs.
      progress: called after each epoch with the step reached and the epoch's mean loss.

    Raises:
      InputError: a batch size below 1 or above the number of examples, or arrays that differ in that number.
    """
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(data)}
    if len(sizes) != 1:
        raise InputError(f"data holds arrays of {sorted(sizes)} examples; all must have the same number")
    (examples,) = sizes
    if not 1 <= batch_size <= examples:
        raise InputError(f"batch_size={batch_size} must lie between 1 and the {examples} examples")
    per_epoch = examples // batch_size

    @jax.jit
    def fresh(params: Params) -> PyTree:
        return optimizer(learning_rate).init(params)

    @functools.partial(jax.jit, donate_argnames=("params", "state", "opt_state"))
    def run(
        data: PyTree,
        mask: Mask,
        key: Key,
        shift: int,
        first: int,
        last: int,
        *,
        params: Params,
        state: PyTree,
        opt_state: PyTree,
    ) -> tuple[Params, PyTree, PyTree, jax.Array]:
        """Steps first … last − 1, which lie in one epoch."""
        tx = optimizer(lambda count: learning_rate(count + shift))
        order_key, noise_key = jax.random.split(key)
        epoch = first // per_epoch
        order = jax.random.permutation(jax.random.fold_in(order_key, epoch), examples)

        def body(step: jax.Array, carry: tuple[Params, PyTree, PyTree, jax.Array]) -> Any:
            params, state, opt_state, total = carry
            rows = jax.lax.dynamic_slice_in_dim(order, (step - epoch * per_epoch) * batch_size, batch_size)
            batch = jax.tree.map(lambda x: x[rows], data)
            gradient = jax.value_and_grad(loss, has_aux=True)
            (value, state), grads = gradient(params, state, batch, jax.random.fold_in(noise_key, step))
            updates, opt_state = tx.update(apply_mask(grads, mask), opt_state, params)
            params = apply_mask(optax.apply_updates(params, updates), mask)
            return params, state, opt_state, total + value

        *trained, total = jax.lax.fori_loop(first, last, body, (params, state, opt_state, jnp.zeros(())))
        return *trained, total / (last - first)

    def fit(
        params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, steps: int, opt_state: PyTree | None = None
    ) -> Fitted:
        # A restored optimizer counts on from the rewind point by itself; a fresh one must be told.
        shift = step if opt_state is None else 0
        end, at, mean_loss = step + steps, step, 0.0
        origin = fingerprint(params, state, mask, key, opt_state, step, steps) if checkpoint else ""
        opt_state = fresh(params) if opt_state is None else opt_state
        if checkpoint and (found := checkpoint.load(origin, Ticket(params, mask, state=state, opt_state=opt_state))):
            saved, values = found
            params, state, opt_state, at, mean_loss = (
                saved.params,
                saved.state,
                saved.opt_state,
                saved.step,
                values["loss"],
            )
        while at < end:
            last = min(end, (at // per_epoch + 1) * per_epoch)
            arguments = {"params": params, "state": state, "opt_state": opt_state}
            params, state, opt_state, mean = run(data, mask, key, shift, at, last, **arguments)
            at, mean_loss = last, float(mean)
            if checkpoint and checkpoint.due():
                reached = Ticket(params, mask, at, state, opt_state)
                checkpoint.save(origin, reached, {"loss": mean_loss})
            if progress:
                progress(at, mean_loss)
        return Fitted(params, state, opt_state, mean_loss)

    return fit


def train_fn(fit: FitFn, *, steps: int, evaluate: Callable[[Params, PyTree], dict[str, Any]] | None = None) -> TrainFn:
    """The `TrainFn` that fits for `steps` steps from wherever the ticket starts, and then evaluates once.

    Metrics are Python floats: "loss", the mean training loss of the last epoch, and whatever scalars
    evaluate(params, state) returns. Raises InputError for a negative number of steps.
    """
    if steps < 0:
        raise InputError(f"steps={steps} must not be negative")

    def train(params: Params, state: PyTree, mask: Mask, key: Key, *, step: int, opt_state: PyTree | None) -> Trained:
        fitted = fit(params, state, mask, key, step=step, steps=steps, opt_state=opt_state)
        metrics = {} if evaluate is None else evaluate(fitted.params, fitted.state)
        return Trained(fitted.params, fitted.state, {k: float(v) for k, v in {"loss": fitted.loss, **metrics}.items()})

    return train
