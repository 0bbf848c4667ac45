"""The store in which a search keeps its finished levels."""

import dataclasses
import hashlib
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _processes, _tree
from jaxticket.errors import CheckpointError
from jaxticket.tickets._checkpoint import load_with, save_with
from jaxticket.tickets._ticket import Ticket, rewind, to_json
from jaxticket.transforms._state import to_stored
from jaxticket.typing import Key, Params, PyTree, Trained


@dataclasses.dataclass(frozen=True)
class Store:
    """Finished levels in the folders level_000, level_001, … of `directory`.

    Each folder is a ticket that `tickets.load` reads (its weights masked, which is all that training it needs), with
    the trained parameters, state and metrics beside it; metrics must be JSON-able. A level is looked up by the ticket
    and the key that it was trained from, so that levels of another search are refused, not mixed in.
    """

    directory: pathlib.Path

    def __init__(self, directory: str | os.PathLike[str]):
        object.__setattr__(self, "directory", pathlib.Path(directory).absolute())

    def path(self, index: int) -> pathlib.Path:
        """Return the folder of a level."""
        return self.directory / f"level_{index:03d}"

    def load(self, index: int, ticket: Ticket, *, key: Key) -> Trained | None:
        """Return the result of training `ticket` with `key` as level `index`, or None if it was not finished.

        Args:
          index: the level.
          ticket: the ticket that it trains.
          key: the key that it trains with.

        Returns:
          The trained parameters, state and metrics, or None.

        Raises:
          CheckpointError: the folder is damaged, or holds a level that was trained from something else.
        """
        path = self.path(index)
        if not path.exists():
            return None
        like = {"trained_params": ticket.params, "trained_state": ticket.state}
        _, trees, more = load_with(path, like=ticket, trees_like=like)
        if more.get("origin") != _origin(ticket, key):
            raise CheckpointError(
                f"{path} was trained from another ticket or key; give this search its own store, or delete it"
            )
        if not isinstance(more.get("metrics"), dict):
            raise CheckpointError(f"{path} holds no metrics of a level; restore it from a copy or delete it")
        return Trained(trees["trained_params"], trees["trained_state"], more["metrics"])

    def load_trained(self, index: int, *, like: Ticket) -> tuple[Params, PyTree]:
        """Return the parameters and the model state at the end of level `index`.

        Args:
          index: the level.
          like: a ticket that gives the structure of parameters and state.

        Returns:
          The parameters and the model state.

        Raises:
          CheckpointError: the folder is missing or damaged, or holds another structure.
        """
        like_trees = {"trained_params": like.params, "trained_state": like.state}
        _, trees, _ = load_with(self.path(index), trees_like=like_trees)
        return trees["trained_params"], trees["trained_state"]

    def save(self, index: int, ticket: Ticket, trained: Trained, *, key: Key) -> None:
        """Save the finished level `index`, the result of training `ticket` with `key`.

        Args:
          index: the level.
          ticket: the ticket that was trained.
          trained: the trained parameters, state and metrics.
          key: the key that it was trained with.

        Raises:
          CheckpointError: the level exists or cannot be written.
          InputError: metrics that are not JSON.
        """
        masked = dataclasses.replace(ticket, params=rewind(ticket))
        params, state, metrics = trained
        to_json("metrics", metrics)
        save_with(
            self.path(index),
            masked,
            trees={"trained_params": params, "trained_state": state},
            record={"origin": _origin(ticket, key), "index": index, "metrics": metrics},
        )


def fingerprint(*trees: PyTree) -> str:
    """Return a hash of the paths, types, shapes and bits of all leaves.

    Examples:
      >>> import jax.numpy as jnp
      >>> fingerprint({"w": jnp.zeros(2)}) == fingerprint({"w": jnp.zeros(2)}), fingerprint(1) == fingerprint(2)
      (True, False)
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(to_stored(trees), is_leaf=_tree.is_none)[0]:
        digest.update(_tree.path_name(path).encode())
        if leaf is None:
            continue
        leaf = jnp.asarray(leaf)
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        digest.update(
            np.ascontiguousarray(_processes.on_host(jax.random.key_data(leaf) if is_key else leaf)).data.cast("B")
        )
    return digest.hexdigest()


def _origin(ticket: Ticket, key: Key) -> str:
    return fingerprint(ticket.params, ticket.mask, ticket.step, ticket.state, ticket.opt_state, key)
