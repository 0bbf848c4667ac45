"""Files that are whole or absent, whatever happens to the process, in runs of one or several processes."""

import contextlib
import functools
import os
import pathlib
import shutil
from collections.abc import Iterator

from jaxticket._processes import on_first
from jaxticket.errors import CheckpointError

__all__ = ["on_first", "remove_partial", "write_bytes", "write_text", "write_together", "writing"]

PARTIAL = ".partial"  # suffix of what is still being written


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the system's error about a full disk, a read-only or a vanished folder into a CheckpointError.

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
        fix = "make room or choose another folder; finished parts stay, and the same command resumes from there"
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


def remove_partial(directory: pathlib.Path) -> None:
    """Delete the tickets that dead processes left half written in a directory.

    Examples:
      >>> remove_partial(pathlib.Path("runs"))
    """
    for path in directory.glob(f".*{PARTIAL}"):
        shutil.rmtree(path, ignore_errors=True)
