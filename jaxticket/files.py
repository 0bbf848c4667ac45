"""Files that are whole or absent, whatever happens to the process, in runs of one or several processes."""

import contextlib
import functools
import os
import pathlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from jaxticket import _processes
from jaxticket._processes import on_first
from jaxticket.errors import CheckpointError

__all__ = ["new_folder", "on_first", "remove_partial", "write_bytes", "write_text", "write_together", "writing"]

PARTIAL = ".partial"  # suffix of what is still being written
MAKE_ROOM = "make room or choose another folder"
_RESUME = f"{MAKE_ROOM}; finished parts stay, and the same command resumes from there"


@contextlib.contextmanager
def writing(path: str | os.PathLike[str], *, fix: str = _RESUME) -> Iterator[None]:
    """Turn the system's error about a full disk, a read-only or a vanished folder into a CheckpointError.

    Args:
      path: the file or folder that is written.
      fix: the advice in the error.

    Raises:
      CheckpointError: the system's error.

    Examples:
      >>> with writing("runs/table.txt"):
      ...     raise OSError(28, "No space left on device")
      Traceback (most recent call last):
          ...
      jaxticket.errors.CheckpointError: runs/table.txt cannot be written (No space left on device); make room ...
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written ({error.strerror or error}); {fix}") from error


def write_text(file: pathlib.Path, text: str) -> None:
    """Replace a text file whole: a reader, or a process killed meanwhile, sees the old or the new text.

    Args:
      file: the path to write.
      text: the new content, written as UTF-8.

    Raises:
      CheckpointError: a file that cannot be written; the old text stays.
    """
    write_bytes(file, text.encode())


def write_bytes(file: pathlib.Path, content: bytes) -> None:
    """Replace a file whole, as `write_text` does.

    Args:
      file: the path to write.
      content: the new content.

    Raises:
      CheckpointError: a file that cannot be written; the old content stays.
    """
    temporary = file.with_name(f"{file.name}{PARTIAL}")
    with writing(file):
        try:
            temporary.write_bytes(content)
            temporary.replace(file)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def write_together(file: pathlib.Path, content: str | bytes) -> None:
    """Replace a file as `write_text` does, and make its folder. Of several processes the first writes, the others wait.

    Args:
      file: the path to write.
      content: the new content; text is written as UTF-8.

    Raises:
      CheckpointError: a file that cannot be written, in every process.
    """
    on_first(functools.partial(_write_in_folder, file, content if isinstance(content, bytes) else content.encode()))


def _write_in_folder(file: pathlib.Path, content: bytes) -> None:
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, content)


@contextlib.contextmanager
def new_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield a temporary folder that becomes `path` when the block ends, and is deleted if the block raises.

    In a run of several processes all of them enter the block, with a `path` that all see.

    Args:
      path: the folder to make; its parents are made too.

    Raises:
      CheckpointError: a `path` that exists, or cannot be written.

    Examples:
      >>> with new_folder(pathlib.Path("/")):
      ...     pass
      Traceback (most recent call last):
          ...
      jaxticket.errors.CheckpointError: / exists; delete it or save under another name
    """
    if _processes.first(path.exists):
        raise CheckpointError(f"{path} exists; delete it or save under another name")
    temporary = path.with_name(f".{path.name}.{_processes.first(lambda: secrets.randbits(31)):x}{PARTIAL}")
    try:
        on_first(functools.partial(_attempt, path, lambda: temporary.mkdir(parents=True)))
        yield temporary
        on_first(functools.partial(_attempt, path, lambda: temporary.rename(path)))
    finally:
        if _processes.is_first():
            shutil.rmtree(temporary, ignore_errors=True)


def remove_partial(directory: pathlib.Path) -> None:
    """Delete the tickets that dead processes left half written in a directory.

    Examples:
      >>> remove_partial(pathlib.Path("runs"))
    """
    for path in directory.glob(f".*{PARTIAL}"):
        shutil.rmtree(path, ignore_errors=True)


def _attempt(path: pathlib.Path, act: Callable[[], Any]) -> None:
    with writing(path, fix=MAKE_ROOM):
        act()
