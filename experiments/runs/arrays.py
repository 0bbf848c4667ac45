"""Arrays that belong to the training examples of a run, kept in files of numpy."""

import functools
import json
import pathlib
import zipfile
from collections.abc import Callable, Mapping, Set
from typing import Any

import numpy as np

from jaxticket import files
from jaxticket.errors import CheckpointError

_ABOUT = "about"  # the name of what is no array: where the others come from


def kept(
    file: pathlib.Path,
    names: Set[str],
    make: Callable[[], Mapping[str, np.ndarray]],
    *,
    origin: str,
    about: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Return the named arrays of the file, which `make` makes if they are not there yet.

    Args:
      file: the file of numpy.
      names: the names of the arrays.
      make: makes the arrays.
      origin: the fingerprint of the training examples that they belong to; those of others are refused.
      about: their provenance.

    Raises:
      CheckpointError: a file that is damaged or of other examples, or that cannot be written.
    """
    stored = _read(file, origin) if file.exists() else {}
    if names <= stored.keys():
        return stored
    arrays = dict(make())
    files.on_first(functools.partial(_write, file, arrays, json.dumps({"data": origin, **(about or {})})))
    return arrays


def _read(file: pathlib.Path, origin: str) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            stored = {name: arrays[name] for name in arrays.files}
        about = json.loads(str(stored.pop(_ABOUT)))["data"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{file} is damaged ({error}); delete it, and the same command makes it again") from error
    if about != origin:
        raise CheckpointError(
            f"{file} belongs to other training examples; delete it, and the same command makes it again"
        )
    return stored


def _write(file: pathlib.Path, arrays: Mapping[str, np.ndarray], about: str) -> None:
    temporary = file.with_name(f"{file.name}.partial")
    with files.writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            np.savez(stream, **{**arrays, _ABOUT: np.array(about)})
        temporary.replace(file)
