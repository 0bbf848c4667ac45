"""The search: the loss of a step, the masks of weights, and the channels that go."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxticket import _tree, filters, scopes, scores, structure
from jaxticket._checks import check_count, check_fraction, check_number, known
from jaxticket.errors import InputError
from jaxticket.masks import apply_mask, full_like
from jaxticket.methods.channels.supertickets._scales import alive_scales
from jaxticket.selection import select
from jaxticket.structure import Groups
from jaxticket.typing import Filter, Key, Mask, Params, PyTree, Schedule

LossFn = Callable[[Params, PyTree, Any, Key], tuple[jax.Array, PyTree]]


class Search(NamedTuple):
    """The state of a search beside parameters and optimizer: what `search_loss` reads and returns.

    Attributes:
      model: the batch statistics.
      mask: the mask of weights that the forward pass uses.
      costs: of scales, as `scale_costs` returns them.
      average: the running average of the parameters.
      count: steps so far, int32 scalar.
    """

    model: PyTree
    mask: Mask
    costs: PyTree
    average: Params
    count: jax.Array  # type: ignore[assignment]


class Epoch(NamedTuple):
    """The search after an epoch. `mask` is that of the last pruning, even where all weights train on (`reset`)."""

    params: Params
    search: Search
    opt_state: PyTree
    mask: Mask
    sparsity: float
    groups: Groups


TrainFn = Callable[[Params, Search, PyTree, int], tuple[Params, Search, PyTree]]


def begin(params: Params, state: PyTree, costs: PyTree, *, where: Filter = filters.weights()) -> Search:
    """Return the state of a search at its start, in which all weights are used.

    Args:
      params: the parameters.
      state: the batch statistics.
      costs: what `scale_costs` returned.
      where: the weights that are pruned.

    Returns:
      A Search.
    """
    average = jax.tree.map(lambda p: jnp.array(p, copy=True), params)
    return Search(state, filters.full_mask(params, where), costs, average, jnp.zeros((), jnp.int32))


def search_loss(loss: LossFn, rho: float | Schedule, *, decay: float = 0.9999) -> LossFn:
    """Return the loss of a search: that of the masked network, and ρ(t) Σ c |γ|.

    Gradients of weights that the mask leaves out are exact zeros, so that only weight decay and momentum move them. The
    average takes in the parameters before each step, by min(decay, (1 + t) / (10 + t)). The authors' ρ rises with each
    step for 25 epochs, `optax.linear_schedule(0, 1.8e-4, 25 * steps)`: to 1.8e-4 for ImageNet, 1.4e-4 for segmentation
    and 1e-6 for keypoints. Their weight decay is `optax.add_decayed_weights`.

    Args:
      loss: (params, batch statistics, batch, key) -> (loss, new statistics), as a `training.Recipe` takes it.
      rho: the strength of the penalty, or a schedule of it by steps.
      decay: of the running average of the parameters.

    Returns:
      The loss, whose state is a `Search`.

    Raises:
      InputError: a decay outside [0, 1).
    """
    check_number(decay=decay)
    if not 0 <= known(decay) < 1:
        raise InputError(f"decay={decay} must be at least 0 and below 1; 0.9999 is the authors'")

    def penalised(params: Params, search: Search, batch: Any, key: Key) -> tuple[jax.Array, Search]:
        value, model = loss(apply_mask(params, search.mask), search.model, batch, key)
        strength = rho(search.count) if callable(rho) else rho
        sizes = _tree.map_present(lambda c, p: jnp.sum(c * jnp.abs(p)), search.costs, params)
        value += strength * sum(jax.tree.leaves(sizes))
        step = 1 - jnp.minimum(decay, (1 + search.count) / (10 + search.count))
        average = optax.incremental_update(params, search.average, step)
        return value, search._replace(model=model, average=average, count=search.count + 1)

    return penalised


def sparsity_at(epoch: int, *, interval: int = 25, target: float = 0.9) -> float:
    """Return the part of the weights that is pruned after an epoch: another tenth at the end of each interval.

    A target between tenths is reached an interval later than the tenth below it.

    Args:
      epoch: the epoch, from 0 on.
      interval: the epochs between two prunings: 25 for ImageNet and Cityscapes, 15 for ADE20K and COCO.
      target: the largest part.

    Returns:
      The part, in [0, target].

    Raises:
      InputError: a negative epoch, an interval below 1, or a target outside [0, 1].

    Examples:
      >>> [sparsity_at(epoch) for epoch in (23, 24, 49, 224, 249)], sparsity_at(249, target=0.95)
      ([0.0, 0.1, 0.2, 0.9, 0.9], 0.95)
    """
    check_count(0, epoch=epoch)
    check_count(1, interval=interval)
    check_fraction("target", target)
    return min((epoch + 1) // interval / 10, target)


def prune(params: Params, sparsity: Any, *, where: Filter = filters.weights()) -> Mask:
    """Return the mask of the largest of all weights, whether they were left out before or not.

    It keeps round(N − s · N) of N weights exactly. The authors drop int(s · N), and all weights that equal the largest
    of these.

    Args:
      params: the parameters, at their stored values.
      sparsity: s, in [0, 1].
      where: the weights that compete.

    Returns:
      The mask.

    Raises:
      InputError: another sparsity.

    Examples:
      >>> import jax.numpy as jnp
      >>> prune({"kernel": jnp.array([[0.25, 0.4, 0.3, 0.2]])}, 0.5)["kernel"]
      Array([[False,  True,  True, False]], dtype=bool)
    """
    check_fraction("sparsity", sparsity)
    return select(scores.magnitude(params), 1 - sparsity, scope=scopes.tree(), where=where)


def supertickets(
    train: TrainFn,
    params: Params,
    search: Search,
    trace: Callable[[Params, PyTree], Groups],
    *,
    epochs: int,
    interval: int = 25,
    target: float = 0.9,
    reset: bool = False,
    every: int = 10,
    least: float = 1e6,
    threshold: float = 1e-3,
    where: Filter = filters.weights(),
) -> Iterator[Epoch]:
    """Search for a sparse subnet in one training: yield the search after each epoch.

    Every few epochs the channels of dead scales go if they are worth it, and at the end in any case; parameters,
    averages, masks and the state of the optimizer get smaller, and `train` compiles again. Then, at the end of an
    interval, the mask is chosen. Unlike in the authors' code, a removal is worth it by the channels that go, and not by
    those of small averages.

    A dead scale leaves relu(shift) behind, which its removal takes away. A batch norm behind the sum of the branches
    subtracts it, by the batch in training. For evaluation compute its statistics again (`loops.soups.recalibrate`),
    over 10 batches; the authors evaluate the average. A network without such a norm changes where a shift lives.

    Args:
      train: (parameters, search, optimizer state, epoch) -> the same after an epoch by `search_loss`. The first
        optimizer state is None. It may donate what it gets: use what is yielded before the next epoch.
      params: the first parameters.
      search: what `begin` returned.
      trace: (parameters, batch statistics) -> what `structure.trace` returns for them and one example.
      epochs: the length of the search.
      interval: as in `sparsity_at`.
      target: as in `sparsity_at`.
      reset: whether all weights train on after a pruning. The mask is then chosen again at the end.
      every: the epochs between two looks for dead channels: 10 for ImageNet.
      least: the multiply-adds an example from which a removal is worth it.
      threshold: as in `alive_scales`.
      where: the weights that are pruned.

    Yields:
      An Epoch for each.

    Raises:
      InputError: counts below 1, a target outside [0, 1], or a negative `least` or threshold.

    References:
      You et al. (2022), SuperTickets: Drawing Task-Agnostic Lottery Tickets from Supernets via Jointly Architecture
      Searching and Parameter Pruning, ECCV, arXiv 2207.03677.
    """
    check_count(1, epochs=epochs, interval=interval, every=every)
    check_fraction("target", target)
    check_number(least=least, threshold=threshold)
    if not (least >= 0 and threshold >= 0):
        raise InputError(f"least={least} and threshold={threshold} must not be negative")

    def run() -> Iterator[Epoch]:
        copy = lambda mask: jax.tree.map(jnp.copy, mask)  # training may donate one of them
        now = Epoch(params, search, None, copy(search.mask), 0.0, trace(params, search.model))
        for epoch in range(epochs):
            trained = train(now.params, now.search, now.opt_state, epoch)
            now = now._replace(params=trained[0], search=trained[1], opt_state=trained[2])
            last = epoch == epochs - 1
            if last or (epoch + 1) % every == 0:
                now = _shrink(now, trace, least=0 if last else least, threshold=threshold, last=last)
            if (epoch + 1) % interval == 0 or (last and reset):
                sparsity = sparsity_at(epoch, interval=interval, target=target)
                mask = prune(now.params, sparsity, where=where)
                used = full_like(mask) if reset else copy(mask)
                now = now._replace(mask=mask, sparsity=sparsity, search=now.search._replace(mask=used))
            yield now

    return run()


def _shrink(
    now: Epoch, trace: Callable[[Params, PyTree], Groups], *, least: float, threshold: float, last: bool
) -> Epoch:
    """Return the search without the channels of dead scales, if these are worth it."""
    costs = now.search.costs
    alive = alive_scales(now.params, now.search.average, costs, threshold=threshold, last=last)
    kept = structure.channels(alive, now.groups)
    gone = now.groups.macs() - now.groups.macs(kept)
    if not gone or gone < least:
        return now
    carry = (now.params, now.search, now.opt_state, now.mask)
    params, search, opt_state, mask = structure.shrink(carry, kept, now.groups)
    return Epoch(params, search, opt_state, mask, now.sparsity, trace(params, search.model))
