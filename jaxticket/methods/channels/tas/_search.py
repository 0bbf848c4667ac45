"""The search: steps of the weights and of the logits in turn, on two halves of the training examples."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxticket import sharding
from jaxticket._checks import check_count, check_fraction, check_key, check_number
from jaxticket.errors import InputError
from jaxticket.methods.channels.tas._budget import alive, choose, expect_widths, likeliest, penalise
from jaxticket.methods.channels.tas._sample import Logits, draw, init_logits
from jaxticket.methods.channels.tas._supernet import Supernet
from jaxticket.tickets import StepCheckpoint
from jaxticket.training import Recipe, fit
from jaxticket.training._recipe import Progressing
from jaxticket.typing import Key, LossFn, Params, ProgressFn, PyTree, Schedule

Examples = tuple[jax.Array, jax.Array]  # (examples, …) inputs and (examples,) labels

_HOT, _COLD = 5.0, 0.1  # the temperatures at the start and at the end
_DECAY = 5e-4  # the L2 penalty of the weights
_MILLION = 1e6  # multiply-adds, the unit of the penalty


class Outcome(NamedTuple):
    """The result of a search.

    Attributes:
      widths: the width of each convolution.
      depths: the number of blocks of each stage.
      cost: the multiply-adds of that network for an example.
      likeliest: the cost of the likeliest widths and depths, before the budget was met.
      logits: the logits in the end.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    cost: int
    likeliest: int
    logits: Logits


SearchFn = Callable[[Key], Outcome]


def anneal(epochs: int) -> Schedule:
    """Return the temperature of samples, epoch -> 0.1 + 4.9 · (1 + cos(π · epoch / epochs)) / 2.

    Args:
      epochs: those of the search.

    Returns:
      The schedule.

    Raises:
      InputError: no epochs.

    Examples:
      >>> [round(float(anneal(2)(epoch)), 3) for epoch in (0, 1, 2)]
      [5.0, 2.55, 0.1]
    """
    check_count(1, epochs=epochs)
    return optax.cosine_decay_schedule(_HOT, epochs, alpha=_COLD / _HOT)


def _nesterov(rate: Schedule) -> optax.GradientTransformation:
    """Return the optimizer of the paper's weights: SGD with Nesterov momentum 0.9 and an L2 penalty of 5e-4."""
    return optax.chain(optax.add_decayed_weights(_DECAY), optax.sgd(rate, momentum=0.9, nesterov=True))


def search(
    net: Supernet,
    first: Examples,
    second: Examples,
    *,
    fraction: float,
    epochs: int,
    batch_size: int = 256,
    learning_rate: Schedule | None = None,
    optimizer: Callable[[Schedule], optax.GradientTransformation] = _nesterov,
    logit_rate: float = 1e-3,
    weight: float = 2.0,
    tolerance: float = 0.05,
    within: float | None = None,
    checkpoint: StepCheckpoint | None = None,
    progress: ProgressFn | None = None,
) -> SearchFn:
    """Return a search for widths and depths within a budget of multiply-adds, whose program compiles once.

    In each step the weights descend the cross-entropy of a batch of the first half. Then the logits descend that of a
    batch of the second half, plus `weight` times the penalty of the expected cost. Each has its own draw. The
    temperature falls from 5 to 0.1 as a cosine, by epoch. The defaults are those of the authors' code on CIFAR, for
    searches of 600 epochs.

    Args:
      net: the supernet.
      first: the examples of the weights.
      second: as many other examples, of the logits.
      fraction: the budget, as a part of the whole network's cost, in (0, 1].
      epochs: passes over both halves.
      batch_size: examples of each half in a step.
      learning_rate: of the weights, over the steps; None for a cosine from 0.1 to 0.
      optimizer: of the weights: schedule -> optax transform.
      logit_rate: the learning rate of the logits, whose optimizer is Adam with b1 = 0.5 and an L2 penalty of 1e-3.
      weight: of the penalty against the cross-entropy.
      tolerance: the part of the whole network's cost by which the likeliest network may stay below the budget without
        a penalty.
      within: as in `choose`: None takes the likeliest network, as the paper does.
      checkpoint: as in `training.fit`.
      progress: as in `training.fit`; the loss is that of the weights.

    Returns:
      The search, key -> outcome. It raises DivergedError where the loss or a weight is not finite.

    Raises:
      InputError: parts outside [0, 1], no epochs, halves of different sizes, or a batch larger than them.

    References:
      Dong and Yang, `Network Pruning via Transformable Architecture Search <https://arxiv.org/abs/1905.09717>`_, 2019

    Examples:
      >>> from jaxticket.methods.channels import tas
      >>> def apply(weights, x, draw):  # a hidden layer
      ...     pair, table = draw.pairs[0], jnp.asarray(tas.resizes((1, 2, 3, 4)))
      ...     hidden = (x @ weights["hidden"])[None] @ table[pair, pair.max()]
      ...     return jnp.tensordot(draw.weights[0], hidden, axes=1) @ weights["output"]
      >>> net = tas.Supernet(
      ...     widths=((1, 2, 3, 4),),
      ...     depths=((1,),),
      ...     init=lambda key: {"hidden": jnp.ones((3, 4)), "output": jnp.ones((4, 2))},
      ...     apply=apply,
      ...     cost=lambda widths, depths: 5 * widths[0],
      ...     expected=lambda widths, alive: 5 * widths[0],
      ... )
      >>> half = jnp.ones((4, 3)), jnp.zeros(4, int)
      >>> find = tas.search(net, half, half, fraction=0.5, epochs=1, batch_size=2, within=0.0)
      >>> find(jax.random.key(0)).widths
      (2,)
    """
    check_fraction("fraction", fraction)
    check_fraction("tolerance", tolerance)
    check_fraction("within", 0 if within is None else within)
    check_count(1, epochs=epochs, batch_size=batch_size)
    check_number(weight=weight, logit_rate=logit_rate)
    if fraction == 0 or len(first[1]) != len(second[1]):
        raise InputError(
            f"fraction={fraction} must be above 0, and both halves must have as many examples, but have "
            f"{len(first[1])} and {len(second[1])}"
        )
    steps = epochs * (len(first[1]) // batch_size)
    recipe = _Alternation(
        loss=_loss_of_weights(net),
        data=(first, second),
        learning_rate=optax.cosine_decay_schedule(0.1, max(steps, 1)) if learning_rate is None else learning_rate,
        batch_size=batch_size,
        optimizer=optimizer,
        logits_loss=_loss_of_logits(net, fraction=fraction, tolerance=tolerance, weight=weight),
        logits_optimizer=optax.chain(optax.add_decayed_weights(1e-3), optax.adam(logit_rate, b1=0.5)),
        temperature=anneal(epochs),
    )
    run = fit(recipe, checkpoint=checkpoint, progress=progress, on_nan="stop")

    def find(key: Key) -> Outcome:
        check_key("key", key)
        init, order, fresh = jax.random.split(key, 3)
        params = {"weights": net.init(init), "logits": init_logits(net.widths, net.depths, key=fresh)}
        fitted = run(params, jnp.int32(0), jax.tree.map(lambda _: None, params), order, step=0, steps=steps)
        logits = fitted.params["logits"]
        widths, depths = choose(net, logits, fraction=fraction, within=within)
        return Outcome(
            widths, depths, net.cost(widths, depths), net.cost(*choose(net, logits, fraction=fraction)), logits
        )

    return find


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Alternation(Recipe):
    """A recipe whose step moves the weights, and then the logits; the model state is the number of steps so far."""

    logits_loss: LossFn
    logits_optimizer: optax.GradientTransformation
    temperature: Schedule

    def fresh(self, params: Params) -> PyTree:
        return super().fresh(params["weights"]), self.logits_optimizer.init(params["logits"])

    def update(
        self, carry: Progressing, batch: PyTree, *, mask: Any, noise: Key, clock: Callable[[jax.Array], jax.Array]
    ) -> Progressing:
        params, step, (lower, upper), total = carry
        weights, logits = params["weights"], params["logits"]
        temperature = self.temperature(step // self.steps_per_epoch)
        (first, second), keys = batch, jax.random.split(noise)
        (value, _), grads = self.gradient(weights, (logits, temperature), first, keys[0])
        updates, lower = self.optimizer(lambda count: self.learning_rate(clock(count))).update(grads, lower, weights)
        weights = optax.apply_updates(weights, updates)
        upper_gradient = sharding.value_and_grad(self.logits_loss, mesh=self.mesh, reduction=self.reduction)
        _, grads = upper_gradient(logits, (weights, temperature), second, keys[1])
        updates, upper = self.logits_optimizer.update(grads, upper, logits)
        params = {"weights": weights, "logits": optax.apply_updates(logits, updates)}
        return Progressing(params, step + 1, (lower, upper), total + value)


def _cross_entropy(
    net: Supernet, weights: Params, logits: Logits, batch: Examples, key: Key, temperature: jax.Array
) -> jax.Array:
    """Return the mean loss of the network that the logits draw, in nats."""
    x, labels = batch
    drawn = draw(logits, net.widths, net.depths, key=key, temperature=temperature)
    return optax.softmax_cross_entropy_with_integer_labels(net.apply(weights, x, drawn), labels).mean()


def _loss_of_weights(net: Supernet) -> LossFn:
    def loss(weights: Params, rest: Any, batch: Examples, key: Key) -> tuple[jax.Array, Any]:
        logits, temperature = rest
        return _cross_entropy(net, weights, logits, batch, key, temperature), rest

    return loss


def _loss_of_logits(net: Supernet, *, fraction: float, tolerance: float, weight: float) -> LossFn:
    full = net.cost([row[-1] for row in net.widths], [row[-1] for row in net.depths])

    def loss(logits: Logits, rest: Any, batch: Examples, key: Key) -> tuple[jax.Array, Any]:
        weights, temperature = rest
        expected = net.expected(expect_widths(logits.widths, net.widths), alive(logits.depths, net.depths))
        now = net.cost(*(row.astype(expected.dtype) for row in likeliest(logits, net)))  # int32 would overflow
        penalty = penalise(expected / _MILLION, now, target=fraction * full, tolerance=tolerance * full)
        return _cross_entropy(net, weights, logits, batch, key, temperature) + weight * penalty, rest

    return loss
