"""The training of networks on subsets of the training examples, by their labels or under a teacher."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.runs.config import Training
from experiments.training import problems
from experiments.training.trainer import TOGETHER, Trainer, fill, is_stacked
from jaxticket import data, training
from jaxticket.training import Batch
from jaxticket.typing import Key, LogitsFn, Params, PyTree


class Taught(NamedTuple):
    """The model state of a student."""

    model: PyTree
    weight: jax.Array  # of its teacher; here and not in the loss, so that no fraction compiles anew


class Lesson(NamedTuple):
    """Training examples, and the teacher's logits of each."""

    x: jax.Array
    y: jax.Array
    teacher: jax.Array  # (examples, classes) logits


def trainer(
    config: Training,
    model: Any,
    recipe: training.Recipe,
    *,
    together: int,
    until: Callable[[int], None] | None = None,
    **options: Any,
) -> Trainer:
    """Return the trainer of lanes whose subsets are of one size.

    Args:
      config: the configuration.
      model: the network.
      recipe: the recipe, with a loss of a `Batch`.
      together: the number of trainings.
      until: called with the last step of each training, before it.
      options: observe, checkpoint and progress, as of `training.fit`.
    """
    placement = problems.place(config, model, min(together, TOGETHER))
    # What runs in turn gains nothing from longer programs, and fills the last one worse.
    wanted = min(together, TOGETHER) if placement.batching == "vmap" else 1
    stacked = is_stacked(placement)
    lanes = fill(wanted, placement) if stacked else 1
    fit = training.fit(recipe, placement=placement, on_nan=config.on_nan, **options)
    return Trainer(fit, lanes=lanes, stacked=stacked, where=placement.why, until=until)


def steps(config: Training, examples: int) -> int:
    """Return the steps of a training on so many examples, with all its epochs."""
    return config.epochs * epoch(config, examples)


def epoch(config: Training, examples: int) -> int:
    """Return the steps of an epoch of so many examples; the last may be smaller."""
    return -(-examples // config.batch_size)


def logits(config: Training, model: Any) -> LogitsFn:
    """Return the logits of a batch in training: augmented, with batch statistics and dropout."""

    def apply(params: Params, state: PyTree, batch: Batch, key: Key) -> tuple[jax.Array, PyTree]:
        x = batch.examples.x
        if config.augment == "crop-and-flip":
            augment_key, key = jax.random.split(key)
            x = data.augment.crop_and_flip(x, key=augment_key)
        return model.apply(params, state, x, train=True, key=key)

    return apply


def recipe(config: Training, basis: problems.Basis) -> training.Recipe:
    """Return the recipe of training on the labels of a subset."""
    forward = logits(config, basis.model)

    def loss(params: Params, state: PyTree, batch: Batch, key: Key) -> tuple[jax.Array, PyTree]:
        ours, state = forward(params, state, batch, key)
        values = optax.softmax_cross_entropy_with_integer_labels(ours, batch.examples.y)
        return training.mean(values, batch.real), state

    return dataclasses.replace(basis.recipe, loss=loss)


def distilled(config: Training, basis: problems.Basis, teacher: jax.Array, *, temperature: float) -> training.Recipe:
    """Return the recipe of students: (1 − weight) · cross-entropy + weight · T² · KL(teacher ‖ student).

    T is the temperature, as in Ben-Baruch et al. ("Distilling the knowledge in data pruning", 2024). `teacher` are its
    logits of the training examples, as they are: augmented ones would need logits of their own.
    """
    forward = logits(config, basis.model)
    apart = jax.vmap(lambda ours, its: training.divergence(ours[None], its[None], temperature=temperature))

    def loss(params: Params, state: Taught, batch: Batch, key: Key) -> tuple[jax.Array, Taught]:
        ours, model = forward(params, state.model, batch, key)
        hard = optax.softmax_cross_entropy_with_integer_labels(ours, batch.examples.y)
        values = (1 - state.weight) * hard + state.weight * apart(ours, batch.examples.teacher)
        return training.mean(values, batch.real), Taught(model, state.weight)

    return dataclasses.replace(basis.recipe, loss=loss, data=Lesson(*basis.dataset.train, teacher))


def evaluation(model: Any) -> Callable[[Params, PyTree, jax.Array], np.ndarray]:
    """Return (parameters, model state, x) -> (examples, classes) logits in evaluation mode."""
    apply = jax.jit(lambda params, state, x: model.apply(params, state, x, train=False, key=None)[0])

    def evaluated(params: Params, state: PyTree, x: jax.Array) -> np.ndarray:
        return np.concatenate([apply(params, state, x[at : at + 1000]) for at in range(0, len(x), 1000)])

    return evaluated
