"""The step checkpoint: what a long training that is killed goes on from."""

import os
import pathlib
import shutil
import time
import warnings
from collections.abc import Callable
from typing import Any

from jaxticket import _processes
from jaxticket.errors import CheckpointError, CheckpointWarning, StoppedError
from jaxticket.tickets import _archive
from jaxticket.tickets._checkpoint import load_with, save_with
from jaxticket.tickets._ticket import Ticket

_KEPT = 2  # states, so that there is one to go on from where the newest is damaged


class StepCheckpoint:
    """The newest two states of one training, in `directory`, saved at most once in `every` seconds.

    A state is found again only by a training that began from the same inputs, so one directory serves all the
    trainings of a run, one after the other. In a run of several processes all of them call every method; what clocks
    and signals say is agreed on.

    Args:
      directory: where the states lie; nothing else may lie there.
      every: seconds between saves, by a clock that never jumps.
      stop: asked at each chance to save: shall the run save now and stop? A handler of SIGTERM may set what it returns.
    """

    def __init__(self, directory: str | os.PathLike[str], *, every: float, stop: Callable[[], bool] = lambda: False):
        self.directory = pathlib.Path(directory).absolute()
        self.every = every
        self._stop = stop
        self._stopping = False
        self._last = time.monotonic()

    def load(self, origin: str, like: Ticket) -> tuple[Ticket, dict[str, Any]] | None:
        """The newest state saved by a training with this origin, and the values saved beside it, or None.

        A state that is damaged is set aside with a CheckpointWarning, and the one before is taken. Raises
        CheckpointError for a state that is whole but not like `like`: the program has changed since.
        """
        number = _processes.first(lambda: self._newest(origin))
        if number < 0:
            return None
        ticket, _, more = load_with(self._path(number), like=like)
        if not isinstance(more.get("values"), dict):
            raise CheckpointError(f"{self._path(number)} holds no values of a training; delete it")
        return ticket, more["values"]

    def due(self) -> bool:
        """Shall the state be saved now: have `every` seconds passed since the last time, or shall the run stop?"""
        votes = _processes.gather(time.monotonic() - self._last >= self.every, self._stop())
        self._stopping = bool(votes[:, 1].any())
        return bool(votes[0, 0]) or self._stopping

    def save(self, origin: str, ticket: Ticket, values: dict[str, Any]) -> None:
        """Saves a state beside the one before; a process killed meanwhile leaves the old or the new one, whole.

        Raises StoppedError, once the state is saved, if `due` found that the run shall stop; CheckpointError if the
        state cannot be written.
        """
        number = _processes.first(lambda: max(self._numbers(), default=-1) + 1)
        save_with(self._path(number), ticket, record={"origin": origin, "values": values})
        if _processes.is_first():
            for old in self._numbers()[:-_KEPT]:
                self._remove(self._path(old))
        self._last = time.monotonic()
        if self._stopping:
            raise StoppedError(f"stopped as asked, after step {ticket.step}")

    def clear(self) -> None:
        """Deletes the saved states, when everything that they served is finished."""
        if _processes.is_first():
            shutil.rmtree(self.directory, ignore_errors=True)

    def _newest(self, origin: str) -> int:
        """The number of the newest whole state of this training, or −1."""
        for number in reversed(self._numbers()):
            try:
                record = _archive.read_record(self._path(number))
            except CheckpointError as error:
                self._set_aside(self._path(number), error)
                continue
            if record["more"].get("origin") == origin:
                return number
        return -1

    def _set_aside(self, path: pathlib.Path, error: CheckpointError) -> None:
        aside = path.with_name(f"damaged_{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        words = f"set aside as {aside.name}; going on from the state before, or from the start of the training"
        warnings.warn(f"{error}: {words}", CheckpointWarning, stacklevel=2)

    def _remove(self, path: pathlib.Path) -> None:
        """Under a name that is no state's: half of one, left by a kill, would look damaged."""
        path = path.rename(path.with_name(f".{path.name}{_archive.PARTIAL}"))
        shutil.rmtree(path, ignore_errors=True)

    def _path(self, number: int) -> pathlib.Path:
        return self.directory / f"state_{number:09d}"

    def _numbers(self) -> list[int]:
        return sorted(int(path.name.removeprefix("state_")) for path in self.directory.glob("state_" + 9 * "[0-9]"))
