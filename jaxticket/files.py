"""Text files that are whole or absent, whatever happens to the process, in runs of one or several processes."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Iterator

from jaxticket import _processes
from jaxticket.errors import CheckpointError

__all__ = ["write_text", "write_together", "writing"]


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
    temporary = file.with_name(f"{file.name}.partial")
    with writing(file):
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(file)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def write_together(file: pathlib.Path, text: str) -> None:
    """Replace a text file as `write_text` does, and make its folder. Of several processes the first writes, the others
    wait.

    Args:
      file: the path to write.
      text: the new content, written as UTF-8.

    Raises:
      CheckpointError: a file that cannot be written, in every process.
    """
    _processes.on_first(functools.partial(_write_in_folder, file, text))


def _write_in_folder(file: pathlib.Path, text: str) -> None:
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
