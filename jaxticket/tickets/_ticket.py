"""The lottery ticket: parameters at the rewind point, and the mask under which they train."""

import dataclasses
import functools
import json
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._check_trees import check_fits, check_structure
from jaxticket.errors import InputError
from jaxticket.masks import apply_mask
from jaxticket.typing import Mask, Params, PyTree


def to_json(name: str, values: Mapping[str, Any]) -> str:
    """Return the mapping as JSON, with its names sorted. Raises InputError for values that JSON cannot hold."""
    try:
        return json.dumps(dict(values), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}={values!r} is not JSON ({error}); keep to strings, numbers, lists, dicts") from error


class Meta(Mapping[str, Any]):
    """An immutable, hashable mapping of JSON values: the provenance of a Ticket.

    Tuples become lists, as they do in JSON. Raises InputError for values that JSON cannot hold.

    Examples:
      >>> Meta({"seed": 0, "levels": (1, 2)})["levels"]
      [1, 2]
    """

    def __init__(self, values: Mapping[str, Any]):
        try:
            self._text = json.dumps(dict(values), sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"meta={values!r} is not JSON ({error}); keep to strings, numbers, lists and dicts"
            ) from error

    def __getitem__(self, name: str) -> Any:
        return json.loads(self._text)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(json.loads(self._text))

    def __len__(self) -> int:
        return len(json.loads(self._text))

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return dict(self) == dict(other) if isinstance(other, Mapping) else NotImplemented

    def __repr__(self) -> str:
        return f"Meta({self._text})"


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", "mask", "state", "opt_state"),
    meta_fields=("step", "meta"),
)
@dataclasses.dataclass(frozen=True)
class Ticket:
    """A lottery ticket (Frankle & Carbin, 2019): train `rewind(ticket)` from `step` on under `mask`.

    It is a pytree. `step` and `meta` are static, so they pass through jit, vmap and grad unchanged, and tickets that
    differ in them compile separately.

    Attributes:
      params: parameters at the rewind point, not masked, so that controls can move the mask over them.
      mask: bool leaves that broadcast to the parameters, or None where not sparsified.
      step: the training step of the rewind point; schedules resume there.
      state: model state at the rewind point (batch statistics), or None.
      opt_state: optimizer state at the rewind point, or None for a fresh optimizer.
      meta: provenance, any JSON-able mapping (config hash, seed, data set).

    Examples:
      >>> import jax.numpy as jnp
      >>> ticket = Ticket({"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([True, False])}, step=100)
      >>> jax.jit(lambda t: t)(ticket).step
      100
    """

    params: Params
    mask: Mask
    step: int = 0
    state: PyTree = None
    opt_state: PyTree = None
    meta: Mapping[str, Any] = Meta({})

    def __post_init__(self) -> None:
        if not isinstance(self.step, numbers.Integral) or isinstance(self.step, bool) or not 0 <= self.step < 2**63:
            raise InputError(f"step={self.step!r} must be a whole number, 0 or more; it counts steps of training")
        object.__setattr__(self, "step", int(self.step))
        if not isinstance(self.meta, Meta):
            object.__setattr__(self, "meta", Meta(self.meta))


def rewind(ticket: Ticket) -> Params:
    """Return the parameters to train: those of the rewind point, with exact zeros where the mask is False.

    Every leaf is a new buffer, so that a training loop may donate it without invalidating the Ticket. Raises
    StructureError if the mask does not have the structure of the parameters.

    Examples:
      >>> import jax.numpy as jnp
      >>> rewind(Ticket({"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([True, False])}))
      {'w': Array([1., 0.], dtype=float32)}
    """
    check_structure("ticket.mask", ticket.mask, "ticket.params", ticket.params)
    return copy(apply_mask(ticket.params, ticket.mask))


def fit_mask(ticket: Ticket) -> Ticket:
    """Return the ticket with its mask in the containers of its parameters, after checking that it fits them."""
    return dataclasses.replace(ticket, mask=check_fits(ticket.params, ticket.mask, name="ticket.mask"))


def copy(tree: PyTree) -> PyTree:
    """Copy every leaf into a new buffer, with its sharding (None stays None)."""
    return _tree.map_present(lambda leaf: jnp.array(leaf, copy=True), tree)
