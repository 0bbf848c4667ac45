"""Controls with the same mask elsewhere: at other rewind points, or for another task."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import jax.numpy as jnp

from jaxticket import _tree, filters
from jaxticket._check_trees import check_structure
from jaxticket._checks import check_key, check_shape
from jaxticket.errors import InputError
from jaxticket.loops.branches._values import InitFn
from jaxticket.tickets._ticket import Ticket, copy, fit_mask, rewind
from jaxticket.training import FitFn
from jaxticket.typing import Filter, Key


def rewinding_sweep(ticket: Ticket, start: Ticket, fit: FitFn, *, steps: Sequence[int], key: Key) -> Iterator[Ticket]:
    """Yield tickets with the same mask over the weights of each of these steps of one training.

    They show how late one must rewind. `start` is trained once, up to the last step. The ticket at each step has the
    parameters, model state and step of that point and a fresh optimizer (Frankle et al., "Linear Mode Connectivity and
    the Lottery Ticket Hypothesis", 2020).

    Args:
      ticket: the ticket that gives the mask.
      start: the dense network at step 0.
      fit: trains it, as `training.fit` does.
      steps: rewind points, rising; 0 is the initialisation.
      key: the key of the search's early training, which gives the order of the data.

    Yields:
      A ticket for each step.

    Raises:
      InputError: steps that are negative or do not rise, or a start that is not at step 0.
      StructureError: a start of another structure.

    Examples:
      >>> import jax
      >>> from jaxticket.training import Fitted
      >>> def fit(params, state, mask, key, *, step, steps, opt_state):
      ...     return Fitted(jax.tree.map(lambda p: p + steps, params), state, opt_state, 0.0)
      >>> start = Ticket({"w": jnp.zeros(2)}, {"w": jnp.array([True, True])})
      >>> ticket = dataclasses.replace(start, mask={"w": jnp.array([True, False])})
      >>> sweep = rewinding_sweep(ticket, start, fit, steps=[0, 10, 30], key=jax.random.key(0))
      >>> [(point.step, float(point.params["w"][0])) for point in sweep]
      [(0, 0.0), (10, 10.0), (30, 30.0)]
    """
    check_structure("start.params", start.params, "ticket.params", ticket.params)
    if any(step < 0 for step in steps) or any(not a < b for a, b in itertools.pairwise(steps)):
        raise InputError(f"steps={list(steps)} must be 0 or more, and rise")
    if start.step:
        raise InputError(f"start.step={start.step}; a sweep starts from the network at step 0")
    return _points(ticket, start, fit, steps=steps, key=key)


def transfer(ticket: Ticket, init: InitFn, *, key: Key, redraw: Filter | None = None) -> Ticket:
    """Return the ticket for another data set: its mask and weights, except the leaves that do not fit there.

    After Morcos et al., "One ticket to win them all" (2019). Model state is `init`'s, since statistics of other data
    mislead; the step stays, the optimizer is fresh. For another optimizer alone, on the same data, only that matters:
    dataclasses.replace(ticket, opt_state=None).

    Args:
      ticket: the ticket.
      init: key -> parameters and model state of the network for the other data set.
      key: a typed PRNG key.
      redraw: the leaves, such as the output layer where the classes differ, that come from `init(key)` whole: their
        mask, if they have one, is full.

    Returns:
      The new ticket.

    Raises:
      StructureError: `init` makes another structure, or another shape of a leaf that is not redrawn.
      NoMatchError: `redraw` matches nothing.

    Examples:
      >>> import jax
      >>> ticket = Ticket({"out": jnp.zeros(3), "w": jnp.ones(2)}, {"out": None, "w": jnp.array([True, False])})
      >>> init = lambda key: ({"out": jnp.zeros(5), "w": jnp.zeros(2)}, None)
      >>> transfer(ticket, init, key=jax.random.key(0), redraw=filters.match("^out$")).params
      {'out': Array([0., 0., 0., 0., 0.], dtype=float32), 'w': Array([1., 1.], dtype=float32)}
    """
    check_key("key", key)
    ticket = fit_mask(ticket)
    fresh, state = init(key)
    fresh = check_structure("what init(key) returns", fresh, "ticket.params", ticket.params)
    nothing = _tree.tree_map(lambda _: None, fresh)
    redrawn = nothing if redraw is None else filters.only(fresh, redraw)
    kept = _tree.tree_map(lambda old, new: old if new is None else None, ticket.params, redrawn)
    _tree.map_present(check_shape, _tree.names(fresh), fresh, kept)
    params = _tree.tree_map(lambda old, new: old if new is None else new, ticket.params, redrawn)
    mask = _tree.tree_map(
        lambda m, new: m if m is None or new is None else jnp.ones(new.shape, bool), ticket.mask, redrawn
    )
    return dataclasses.replace(ticket, params=params, mask=mask, state=state, opt_state=None)


def _points(ticket: Ticket, start: Ticket, fit: FitFn, *, steps: Sequence[int], key: Key) -> Iterator[Ticket]:
    params, state, opt_state, at = rewind(start), copy(start.state), copy(start.opt_state), 0
    for step in steps:
        if step > at:
            fitted = fit(params, state, start.mask, key, step=at, steps=step - at, opt_state=opt_state)
            params, state, opt_state, at = fitted.params, fitted.state, fitted.opt_state, step
        # Copies: `fit` may donate these buffers when it continues.
        point = dataclasses.replace(ticket, params=copy(params), state=copy(state))
        yield dataclasses.replace(point, step=step, opt_state=None)
