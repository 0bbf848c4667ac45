"""The step checkpoint, from which a long training resumes after a kill."""

import os
import pathlib
import shutil
import time
import warnings
from collections.abc import Callable
from typing import Any

from jaxticket import _processes
from jaxticket.errors import CheckpointError, CheckpointWarning, StoppedError
from jaxticket.files import PARTIAL
from jaxticket.tickets import _archive
from jaxticket.tickets._checkpoint import load_with, save_with
from jaxticket.tickets._ticket import Ticket

_KEPT = 2  # states, so that a training can resume where the newest is damaged


class StepCheckpoint:
    """The newest two states of one training, in `directory`, saved at most once in `every` seconds.

    Only a training that began from the same inputs loads a state, so one directory serves all the trainings of a run,
    one after the other. In a run of several processes all of them call every method, and they agree on clocks and
    signals.

    Args:
      directory: the folder of the states; nothing else may lie there.
      every: seconds between saves, by a clock that never jumps.
      stop: called at each chance to save; it returns whether the run should save now and stop. A handler of SIGTERM may
        set this value.
    """

    def __init__(self, directory: str | os.PathLike[str], *, every: float, stop: Callable[[], bool] = lambda: False):
        self.directory = pathlib.Path(directory).absolute()
        self.every = every
        self._stop = stop
        self._stopping = False
        self._last = time.monotonic()

    def load(self, origin: str, like: Ticket) -> tuple[Ticket, dict[str, Any]] | None:
        """Return the newest state saved by a training with this origin, and the values saved beside it, or None.

        A damaged state is set aside with a CheckpointWarning, and the one before is taken.

        Args:
          origin: the fingerprint of the training's inputs.
          like: a ticket that gives the structure, shapes and dtypes.

        Returns:
          The state as a ticket, and the values; or None.

        Raises:
          CheckpointError: a state that is whole but not like `like`, since the program has changed.
        """
        number = _processes.first(lambda: self._newest(origin))
        if number < 0:
            return None
        ticket, _, more = load_with(self._path(number), like=like)
        if not isinstance(more.get("values"), dict):
            raise CheckpointError(f"{self._path(number)} holds no values of a training; delete it")
        return ticket, more["values"]

    def due(self) -> bool:
        """Return whether to save now: `every` seconds have passed since the last save, or the run should stop."""
        votes = _processes.gather(time.monotonic() - self._last >= self.every, self._stop())
        self._stopping = bool(votes[:, 1].any())
        return bool(votes[0, 0]) or self._stopping

    def save(self, origin: str, ticket: Ticket, values: dict[str, Any]) -> None:
        """Save a state beside the one before; a process killed meanwhile leaves the old or the new one, whole.

        Args:
          origin: the fingerprint of the training's inputs.
          ticket: the state as a ticket.
          values: JSON values to save beside it.

        Raises:
          StoppedError: once the state is saved, if `due` saw that the run should stop.
          CheckpointError: the state cannot be written.
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
        """Delete the saved states, when everything that they served is finished."""
        if _processes.is_first():
            shutil.rmtree(self.directory, ignore_errors=True)

    def _newest(self, origin: str) -> int:
        """Return the number of the newest whole state of this training, or −1."""
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
        words = f"set aside as {aside.name}; resuming from the state before, or from the start of the training"
        warnings.warn(f"{error}: {words}", CheckpointWarning, stacklevel=2)

    def _remove(self, path: pathlib.Path) -> None:
        """Rename the folder before it is deleted, since half of a state, left by a kill, would look damaged."""
        path = path.rename(path.with_name(f".{path.name}{PARTIAL}"))
        shutil.rmtree(path, ignore_errors=True)

    def _path(self, number: int) -> pathlib.Path:
        return self.directory / f"state_{number:09d}"

    def _numbers(self) -> list[int]:
        return sorted(int(path.name.removeprefix("state_")) for path in self.directory.glob("state_" + 9 * "[0-9]"))
