"""The folder of a run: one process at a time, and metrics whose lines are neither torn nor repeated."""

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from jaxticket.errors import CheckpointError
from jaxticket.tickets import archive


@contextlib.contextmanager
def lock(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Holds the run in `directory`, making the folder if need be; a dead process holds nothing.

    Raises CheckpointError if another process holds it, or if the folder cannot be written.
    """
    directory = pathlib.Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        stream = (directory / "lock").open("w")
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be written ({error.strerror}); choose another folder") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CheckpointError(f"{directory} is in use by another process; wait for it, or end it") from error
        yield


def claim(directory: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
    """Marks `directory`, which the caller has locked, as the run of `config` (JSON-able), and tidies it.

    What a killed process left half written is deleted. Raises CheckpointError if the folder holds the run of another
    configuration, naming the first value that differs, or files that no run wrote.
    """
    directory = pathlib.Path(directory)
    file = directory / "config.json"
    wanted = json.loads(json.dumps(config))
    if file.exists():
        try:
            found = json.loads(file.read_text())
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise CheckpointError(f"{file} is not the configuration of a run; choose another folder or delete this one")
        for name in sorted({*wanted, *found}):
            if found.get(name) != wanted.get(name):
                raise CheckpointError(
                    f"{directory} holds the run of another configuration: {name} is {found.get(name)!r} there, "
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
        archive.remove_partial(folder)


def write_text(file: pathlib.Path, text: str) -> None:
    """Replaces a text file whole: a reader, or a process killed meanwhile, sees the old or the new text."""
    temporary = file.with_name(f"{file.name}.partial")
    temporary.write_text(text)
    temporary.replace(file)


class JsonLines:
    """A file of one JSON value a line, to which a resumed run tells its whole story again.

    A line that is already there in its place is left alone; from the first that differs (torn by a kill, or of a
    shorter run that is now extended) the file is written anew.
    """

    def __init__(self, path: str | os.PathLike[str]):
        path = pathlib.Path(path)
        path.touch()
        self._file = path.open("r+b")
        self._known = self._file.read().splitlines(keepends=True)
        self._end = 0  # bytes that are known to be right

    def append(self, value: Any) -> None:
        """Makes `value` the next line."""
        line = (json.dumps(value) + "\n").encode()
        if self._known and self._known[0] == line:
            self._known.pop(0)
        else:
            self._cut()
            self._file.seek(self._end)
            self._file.write(line)
            self._file.flush()
        self._end += len(line)

    def close(self) -> None:
        """Drops the lines of a former run that this one did not repeat."""
        self._cut()
        self._file.close()

    def _cut(self) -> None:
        if self._known:
            self._file.truncate(self._end)
            self._known = []
