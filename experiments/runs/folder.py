"""The folder of a run: one process at a time, and metrics whose lines are neither torn nor repeated."""

import contextlib
import functools
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import IO, Any

from jaxticket.errors import CheckpointError
from jaxticket.files import on_first, remove_partial, write_text, writing


@contextlib.contextmanager
def lock(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the run in `directory`, making the folder if need be; a dead process holds nothing.

    Of the several processes of one run, the first holds it for all. Raises CheckpointError, in all of them, if another
    run holds it, or if the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        on_first(functools.partial(_lock, pathlib.Path(directory), held))
        yield


def _lock(directory: pathlib.Path, held: contextlib.ExitStack) -> None:
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        stream = held.enter_context((directory / "lock").open("a"))
    try:
        _hold(stream)
    except OSError as error:
        raise CheckpointError(f"{directory} is in use by another process; wait for it, or end it") from error


def _hold(stream: IO[str]) -> None:
    """Lock an open file for as long as it stays open. The system ends the lock with the process, however it ends."""
    if sys.platform == "win32":
        import msvcrt  # neither module exists on the other's system

        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # a byte may be locked beyond the end of the file
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def claim(directory: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
    """Mark `directory`, which the caller has locked, as the run of `config` (JSON-able), and tidy it.

    Files that a killed process left half written are deleted. Raises CheckpointError if the folder holds the run of
    another configuration, naming the first value that differs, or files that no run wrote.
    """
    on_first(functools.partial(_claim, pathlib.Path(directory), config))


def _claim(directory: pathlib.Path, config: Mapping[str, Any]) -> None:
    file = directory / "config.json"
    wanted = json.loads(json.dumps(config))
    if file.exists():
        try:
            stored = json.loads(file.read_text())
        except (ValueError, RecursionError):
            stored = None
        if not isinstance(stored, dict):
            raise CheckpointError(f"{file} is not the configuration of a run; choose another folder or delete this one")
        for name in sorted({*wanted, *stored}):
            if stored.get(name) != wanted.get(name):
                raise CheckpointError(
                    f"{directory} holds the run of another configuration: {name} is {stored.get(name)!r} there, "
                    f"{wanted.get(name)!r} here; choose another folder or delete that one"
                )
    else:
        # A killed process may have left the lock, or the unfinished config file, and nothing else.
        foreign = [path.name for path in directory.iterdir() if path.name not in ("lock", "config.json.partial")]
        if foreign:
            raise CheckpointError(
                f"{directory} holds files that no run wrote ({sorted(foreign)[0]}); choose another folder"
            )
        write_text(file, json.dumps(wanted, indent=1) + "\n")
    for folder in [directory, *(path for path in directory.rglob("*") if path.is_dir())]:
        remove_partial(folder)


class JsonLines:
    """A file of one JSON value a line, to which a resumed run writes all of its lines again.

    A line that is already there in its place is left alone. From the first that differs (torn by a kill, or of a
    shorter run that is now extended) the file is written again.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._path = pathlib.Path(path)
        with writing(self._path):
            self._path.touch()
            self._file = self._path.open("r+b", buffering=0)  # what is buffered could be written after an error
            self._known = self._file.read().splitlines(keepends=True)
        self._end = 0  # bytes that are known to be right

    def append(self, value: Any) -> None:
        """Make `value` the next line.

        Raises CheckpointError, and leaves whole lines only, if it cannot be written or the file was deleted.
        """
        line = (json.dumps(value) + "\n").encode()
        if self._known and self._known[0] == line:
            self._known.pop(0)
        else:
            self._cut()
            with writing(self._path):
                self._write(line)
        if not os.fstat(self._file.fileno()).st_nlink:
            raise CheckpointError(f"{self._path} was deleted during the run; put it back, or delete the run")
        self._end += len(line)

    def close(self) -> None:
        """Drop the lines of a former run that this one did not repeat."""
        self._cut()
        self._file.close()

    def _write(self, line: bytes) -> None:
        self._file.seek(self._end)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(self._end)
            raise

    def _cut(self) -> None:
        if self._known:
            self._file.truncate(self._end)
            self._known = []
