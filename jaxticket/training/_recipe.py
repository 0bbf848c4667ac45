"""A training, however its steps are driven: a loss, data, an optimizer, and the order of the examples."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxticket import sharding
from jaxticket.errors import InputError
from jaxticket.masks import apply_mask
from jaxticket.training._shuffle import shuffle
from jaxticket.transforms._constraints import masked_update
from jaxticket.typing import Key, LossFn, Mask, Params, PyTree, Schedule


class Progressing(NamedTuple):
    """The values that a step passes to the next one."""

    params: Params
    state: PyTree
    opt_state: PyTree
    total: jax.Array  # losses of this epoch, added up


class Part(NamedTuple):
    """Some steps of one epoch, and what they are trained with."""

    mask: Mask
    key: Key
    subset: jax.Array | None  # (examples,) bool; None trains on all examples
    shift: Any  # the step at which a fresh optimizer began, else 0
    stretch: Any  # steps of the learning-rate schedule that pass in a step
    first: Any
    last: Any  # the step after the last


class Steps(NamedTuple):
    """The training of a part of an epoch: the order of its examples, and a step."""

    order: Callable[[Part], jax.Array]
    step: Callable[[Progressing, Any, jax.Array, PyTree, Part], Progressing]  # carry, its number, order, data, part


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The way tickets are trained, whichever loop drives the steps: `fit` or `scan_train`.

    Gradients are masked before the optimizer sees them, parameters after each update, so that masked weights stay
    exact zeros. The order of the examples derives from (key, epoch), and the randomness of the loss from (key, step).

    Attributes:
      loss: loss(params, state, batch, key) -> (mean loss, new state). Augmentation belongs in it, with its key.
      data: pytree of arrays with the examples on the first axis; the rest of an epoch after its last whole batch is
        dropped.
      learning_rate: schedule over the training's steps. A fresh optimizer that starts at step k sees it from k on.
      batch_size: examples a step.
      optimizer: schedule -> optax transform, such as optax.adam, or a functools.partial with more arguments.
      mesh: devices that share each batch along the axis "data", of one process or of several; weights, states and the
        optimizer's are on each of them.
      reduction: the way `sharding.value_and_grad` adds up their gradients; "fixed" (8 parts) gives the bits of any
        mesh.
      count: the number of examples, where the last rows of `data` only make it divisible.

    Raises:
      InputError: a batch size below 1, above the number of examples or not divided by the devices of the mesh (with
        reduction="fixed" by 8); arrays that differ in the number of examples.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> loss = lambda params, state, batch, key: (jnp.mean((batch @ params["w"]) ** 2), state)
      >>> recipe = Recipe(loss=loss, data=jnp.ones((50, 2)), learning_rate=optax.constant_schedule(0.1), batch_size=8)
      >>> recipe.steps_per_epoch
      6
    """

    loss: LossFn
    data: PyTree
    learning_rate: Schedule
    batch_size: int
    optimizer: Callable[[Schedule], optax.GradientTransformation] = optax.adam
    mesh: Mesh | None = None
    reduction: sharding.Reduction = "any"
    count: int | None = None

    def __post_init__(self) -> None:
        sizes = {leaf.shape[0] for leaf in jax.tree.leaves(self.data)}
        if len(sizes) != 1:
            raise InputError(f"data holds arrays of {sorted(sizes)} examples; all must have the same number")
        if not 1 <= self.batch_size <= self.examples:
            raise InputError(f"batch_size={self.batch_size} must lie between 1 and the {self.examples} examples")
        parts = sharding.SHARDS if self.reduction == "fixed" else 1 if self.mesh is None else self.mesh.shape["data"]
        if self.batch_size % parts:
            raise InputError(f"batch_size={self.batch_size} must be a multiple of {parts}, into which a batch is split")

    @property
    def examples(self) -> int:
        """The number of examples."""
        return int(jax.tree.leaves(self.data)[0].shape[0]) if self.count is None else self.count

    @property
    def gradient(self) -> sharding.GradientFn:
        """The function (params, state, batch, key) -> ((loss, state), gradient), on the mesh."""
        return sharding.value_and_grad(self.loss, mesh=self.mesh, reduction=self.reduction)

    @property
    def steps_per_epoch(self) -> int:
        """The number of whole batches in the data."""
        return self.examples // self.batch_size

    def fresh(self, params: Params) -> PyTree:
        """Return the optimizer's state before its first step."""
        return self.optimizer(self.learning_rate).init(params)

    def order(self, epoch: int | jax.Array, *, key: Key) -> jax.Array:
        """Return the examples in the order of this epoch."""
        order_key, _ = jax.random.split(key)
        return shuffle(jax.random.fold_in(order_key, epoch), self.examples)

    def noise(self, at: int | jax.Array, *, key: Key) -> Key:
        """Return the key of the randomness in the loss of step `at`."""
        _, noise_key = jax.random.split(key)
        return jax.random.fold_in(noise_key, at)

    def update(
        self, carry: Progressing, batch: PyTree, *, mask: Mask, noise: Key, clock: Callable[[jax.Array], jax.Array]
    ) -> Progressing:
        """Take a step on this batch; `clock` turns the optimizer's count into the step of the learning rate."""
        params, state, opt_state, total = carry
        tx = optax.with_extra_args_support(self.optimizer(lambda count: self.learning_rate(clock(count))))
        (value, state), grads = self.gradient(params, state, batch, noise)
        updates, opt_state = masked_update(tx, grads, opt_state, params, mask)
        params = apply_mask(optax.apply_updates(params, updates), mask)
        return Progressing(params, state, opt_state, total + value)

    def begin(self, params: Params, state: PyTree, opt_state: PyTree | None) -> Progressing:
        """Return the carry before the first step."""
        opt_state = self.fresh(params) if opt_state is None else opt_state
        carry = Progressing(params, state, opt_state, jnp.zeros(()))
        if self.mesh is None:
            return carry
        return jax.lax.with_sharding_constraint(carry, NamedSharding(self.mesh, PartitionSpec()))


def on_all_examples(recipe: Recipe) -> Steps:
    """Return the steps on whole batches of all examples; the rest of an epoch is dropped.

    The data are passed and not taken from the recipe, so that a compiled step does not hold them as a constant.
    """

    def order(part: Part) -> jax.Array:
        return recipe.order(part.first // recipe.steps_per_epoch, key=part.key)

    def step(carry: Progressing, at: Any, order: jax.Array, data: PyTree, part: Part) -> Progressing:
        start = (at % recipe.steps_per_epoch) * recipe.batch_size
        rows = jax.lax.dynamic_slice_in_dim(order, start, recipe.batch_size)
        batch = jax.tree.map(lambda x: x[rows], data)
        noise = recipe.noise(at, key=part.key)
        return recipe.update(carry, batch, mask=part.mask, noise=noise, clock=lambda count: count + part.shift)

    return Steps(order, step)
