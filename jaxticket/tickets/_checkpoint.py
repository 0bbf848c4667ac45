"""Functions that save tickets, and load them on any device."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import optax

from jaxticket import masks
from jaxticket._version import __version__
from jaxticket.tickets import _archive
from jaxticket.tickets._ticket import Ticket
from jaxticket.transforms._state import from_stored, to_stored
from jaxticket.typing import Mask, Params, PyTree

_FIELDS = ("params", "mask", "state", "opt_state")


def save(path: str | os.PathLike[str], ticket: Ticket) -> None:
    """Save a ticket in the new directory `path`: arrays through orbax, masks at one bit a weight.

    A record in JSON beside them holds step, meta, library versions, the number of weights kept in each leaf, and the
    checksum of every file. The directory appears under its name only when it is complete, so a killed process leaves
    no incomplete ticket; an existing `path` is never overwritten.

    Args:
      path: the directory to make.
      ticket: the ticket.

    Raises:
      CheckpointError: `path` exists or cannot be written.
      InputError: leaves that are not arrays.
      MissingExtraError: orbax-checkpoint is not installed.
    """
    save_with(path, ticket)


def save_with(
    path: str | os.PathLike[str],
    ticket: Ticket,
    *,
    trees: Mapping[str, PyTree] | None = None,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Save a ticket with more pytrees and JSON values, for `load_with`; `load` reads the ticket alone."""
    named = {**_fields(ticket), **(trees or {})}
    arrays = {name: _archive.as_arrays(name, to_stored(tree)) for name, tree in named.items()}
    provenance = {
        "step": ticket.step,
        "meta": dict(ticket.meta),
        "versions": {"jaxticket": __version__, "jax": jax.__version__, "optax": optax.__version__},
        "density": _kept(arrays["params"], arrays["mask"]),
    }
    _archive.write(path, arrays, {**provenance, "more": dict(record or {})})


def load(path: str | os.PathLike[str], *, like: Ticket | None = None, shardings: Ticket | None = None) -> Ticket:
    """Return the ticket that `save` wrote, with the same bits.

    Args:
      path: the saved directory.
      like: a ticket of arrays or of jax.ShapeDtypeStruct (from jax.eval_shape) that the result resembles: its
        containers, such as the NamedTuples of optimizer states, and its shapes and dtypes, which are checked. Without
        it, containers come back as dicts and lists.
      shardings: a ticket of shardings, or of prefixes of such pytrees, onto which the arrays are loaded; None stands
        for the default device.

    Returns:
      The ticket.

    Raises:
      CheckpointError: the directory is missing, foreign, truncated or altered, or differs from `like`.
      MissingExtraError: orbax-checkpoint is not installed.
    """
    ticket, _, _ = load_with(path, like=like, shardings=shardings)
    return ticket


def load_with(
    path: str | os.PathLike[str],
    *,
    like: Ticket | None = None,
    trees_like: Mapping[str, PyTree] | None = None,
    shardings: Ticket | None = None,
) -> tuple[Ticket, dict[str, PyTree], dict[str, Any]]:
    """Return what `save_with` wrote: the ticket, the other pytrees, the other JSON values."""
    templates = {**({} if like is None else _fields(like)), **(trees_like or {})}
    places = {} if shardings is None else _fields(shardings)
    stored, record = _archive.read(path, like=_all_stored(templates), shardings=_all_stored(places))
    trees = {name: from_stored(tree) for name, tree in stored.items()}
    fields = {name: trees.pop(name, {}) for name in _FIELDS}  # a tree without leaves is saved only as dict or list
    return Ticket(**fields, step=record["step"], meta=record["meta"]), trees, record["more"]


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the record of a saved ticket without loading its arrays: step, meta, versions, density by leaf.

    Raises CheckpointError as `load` does.
    """
    record = _archive.read_record(path)
    return {name: record[name] for name in ("step", "meta", "versions", "density")}


def _fields(ticket: Ticket) -> dict[str, PyTree]:
    return {name: getattr(ticket, name) for name in _FIELDS}


def _all_stored(trees: Mapping[str, PyTree]) -> dict[str, PyTree]:
    return {name: to_stored(tree) for name, tree in trees.items()}


def _kept(params: Params, mask: Mask) -> dict[str, dict[str, int]]:
    """Return the number of weights that the mask keeps of each sparsified leaf."""
    rows = masks.summary(params, mask).rows
    return {row.path: {"kept": row.kept, "of": row.size} for row in rows if row.density is not None}
