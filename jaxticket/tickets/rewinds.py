"""Rewind policies, which make the ticket of the next level: pure functions (ticket, trained, mask) -> Ticket.

`ticket` is the one that the last level trained, `trained` the result, and `mask` was pruned from that. The policies are
compared by Renda, Frankle & Carbin, "Comparing Rewinding and Fine-tuning in Neural Network Pruning" (2020).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._check_trees import check_arrays, check_fits, check_mask
from jaxticket._checks import check_number
from jaxticket.errors import InputError
from jaxticket.tickets._ticket import Ticket
from jaxticket.typing import Mask, Params, PyTree, Trained

__all__ = ["Rewind", "everything", "fine_tune", "learning_rate", "mask_state", "weights"]

Rewind = Callable[[Ticket, Trained, Mask], Ticket]


def weights() -> Rewind:
    """Rewind weights and model state to the rewind point, with its step and a fresh optimizer (Frankle & Carbin, 2019).

    Examples:
      >>> old = Ticket({"w": jnp.ones(2)}, {"w": jnp.array([True, True])}, step=7)
      >>> new = weights()(old, Trained({"w": jnp.zeros(2)}, None, {}), {"w": jnp.array([True, False])})
      >>> new.params, new.step
      ({'w': Array([1., 1.], dtype=float32)}, 7)
    """

    def policy(ticket: Ticket, trained: Trained, mask: Mask) -> Ticket:
        check_mask("mask", mask)
        return dataclasses.replace(ticket, mask=mask, opt_state=None)

    return policy


def everything() -> Rewind:
    """Rewind weights, model state, step and optimizer state, and mask the optimizer state like its parameters.

    An array of the optimizer's state is masked if it has the path and the shape of a parameter, for any optimizer;
    counts and factored statistics stay. The policy raises InputError for a ticket without `opt_state`.
    Examples:
      >>> old = Ticket({"w": jnp.ones(2)}, {"w": jnp.array([True, True])}, opt_state={"mu": {"w": jnp.ones(2)}})
      >>> everything()(old, Trained({"w": jnp.zeros(2)}, None, {}), {"w": jnp.array([True, False])}).opt_state
      {'mu': {'w': Array([1., 0.], dtype=float32)}}
    """

    def policy(ticket: Ticket, trained: Trained, mask: Mask) -> Ticket:
        if ticket.opt_state is None:
            raise InputError(
                "rewinds.everything() needs ticket.opt_state, which is None; save the optimizer's state at the rewind "
                "point in the ticket, or use rewinds.weights() for a fresh optimizer"
            )
        return dataclasses.replace(ticket, mask=mask, opt_state=mask_state(ticket.opt_state, ticket.params, mask))

    return policy


def learning_rate() -> Rewind:
    """Keep the trained weights and model state, and rewind the step (and so the learning rate) to the rewind point.

    The optimizer is fresh, where the code of Renda et al. (2020) restores its momentum.

    Examples:
      >>> old = Ticket({"w": jnp.ones(2)}, {"w": jnp.array([True, True])}, step=7)
      >>> new = learning_rate()(old, Trained({"w": jnp.zeros(2)}, None, {}), {"w": jnp.array([True, False])})
      >>> new.params, new.step
      ({'w': Array([0., 0.], dtype=float32)}, 7)
    """

    def policy(ticket: Ticket, trained: Trained, mask: Mask) -> Ticket:
        check_arrays("trained.params", trained.params)
        return dataclasses.replace(ticket, params=trained.params, mask=mask, state=trained.state, opt_state=None)

    return policy


def fine_tune(step: int) -> Rewind:
    """Keep the trained weights and model state, and continue from `step`, with a fresh optimizer (Renda et al., 2020).

    Pass the last step, where the learning rate has its last value. Raises InputError for a negative step.

    Examples:
      >>> old = Ticket({"w": jnp.ones(2)}, {"w": jnp.array([True, True])}, step=7)
      >>> fine_tune(1000)(old, Trained({"w": jnp.zeros(2)}, None, {}), {"w": jnp.array([True, False])}).step
      1000
    """
    check_number(step=step)
    if step < 0:
        raise InputError(f"step={step} must not be negative; pass the last step of training")

    def policy(ticket: Ticket, trained: Trained, mask: Mask) -> Ticket:
        replaced = dataclasses.replace(ticket, params=trained.params, mask=mask, state=trained.state, opt_state=None)
        return dataclasses.replace(replaced, step=step)

    return policy


def mask_state(opt_state: PyTree, params: Params, mask: Mask) -> PyTree:
    """Return an optimizer state with zeros where the mask is False, in every array that belongs to a masked parameter.

    An array belongs to the parameter whose path its own path ends with (the longest such), if it has its shape too.
    Unlike a match of known state classes, this works for any optimizer and inside any wrapper.

    Args:
      opt_state: the optimizer state.
      params: the parameters.
      mask: their mask.

    Returns:
      The optimizer state.

    Examples:
      >>> mask_state({"mu": {"w": jnp.ones(2)}, "count": 3}, {"w": jnp.ones(2)}, {"w": jnp.array([True, False])})
      {'count': 3, 'mu': {'w': Array([1., 0.], dtype=float32)}}
    """
    mask = check_fits(params, mask)
    paths, _ = zip(*jax.tree_util.tree_flatten_with_path(params, is_leaf=_tree.is_none)[0], strict=True)
    owners = dict(zip(map(_path, paths), zip(_tree.leaves(params), _tree.leaves(mask), strict=True), strict=True))

    def visit(path: tuple[Any, ...], leaf: Any) -> Any:
        tail = _path(path)
        while tail not in owners and tail:
            tail = tail[1:]
        param, kept = owners.get(tail, (None, None))
        if kept is None or param is None or getattr(leaf, "shape", None) != param.shape:
            return leaf
        return jnp.where(kept, leaf, jnp.zeros_like(leaf))

    return jax.tree_util.tree_map_with_path(visit, opt_state)


def _path(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(_tree.path_name((part,)) for part in path)
