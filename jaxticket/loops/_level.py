"""A level of the search: a ticket and the result of its training."""

from typing import NamedTuple, Protocol

from jaxticket.tickets._ticket import Ticket
from jaxticket.typing import Density, Key, Mask, Params, Trained


class Level(NamedTuple):
    """One level of a search: its index from 0, the density asked for, the ticket, and that ticket trained."""

    index: int  # type: ignore[assignment]  # the field, not the method of tuples
    density: Density
    ticket: Ticket
    trained: Trained


class PruneFn(Protocol):
    """Choose, among the weights that `mask` keeps, those to keep at a lower density."""

    def __call__(self, params: Params, mask: Mask, density: Density, *, key: Key) -> Mask: ...


class LevelStore(Protocol):
    """A store of finished levels, so that a killed search does not train them again."""

    def load(self, index: int, ticket: Ticket, *, key: Key) -> Trained | None:
        """Return the result of training `ticket` with `key` as level `index`, or None if it was not finished."""

    def save(self, index: int, ticket: Ticket, trained: Trained, *, key: Key) -> None:
        """Save the finished level `index`, the result of training `ticket` with `key`."""
