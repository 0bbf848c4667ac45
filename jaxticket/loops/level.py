"""A level of the search: a ticket and what came of training it."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jaxticket.tickets.ticket import Ticket
from jaxticket.typing import Density, Key, Mask, Params, PyTree, Trained


class Level(NamedTuple):
    """One level of a search: its index from 0, the density asked for, the ticket, and that ticket trained."""

    index: int  # type: ignore[assignment]  # the field, not the method of tuples
    density: Density
    ticket: Ticket
    trained: Trained


class PruneFn(Protocol):
    """Chooses, among the weights that `mask` keeps, those to keep at a lower density."""

    def __call__(self, params: Params, mask: Mask, density: Density, *, key: Key) -> Mask: ...


class LevelStore(Protocol):
    """Keeps finished levels, so that a killed search does not train them again."""

    def load(self, index: int, ticket: Ticket, *, key: Key) -> Trained | None:
        """What training `ticket` with `key` gave as level `index`, or None if it was not finished."""

    def save(self, level: Level, *, key: Key) -> None:
        """Keeps a finished level."""


# loss(params, state, batch, key) -> (mean loss of the batch, new state)
LossFn = Callable[[Params, PyTree, Any, Key], tuple[Any, PyTree]]
# called with the step reached and the mean training loss since the last call
ProgressFn = Callable[[int, float], None]
