"""Decisions that the processes of one run must share: if one takes another way, the others wait for it for ever."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxticket.errors import CheckpointError

_LONGEST = 2048  # bytes of an error


def is_first() -> bool:
    """Whether this is the process that writes what only one process may write."""
    return jax.process_index() == 0


def gather(*mine: bool) -> np.ndarray:
    """Return these answers of every process: bool (processes, answers)."""
    return np.asarray(multihost_utils.process_allgather(np.array(mine)), bool).reshape(-1, len(mine))


def first(find: Callable[[], int]) -> int:
    """Return the number that process 0 looks up; the other processes do not look."""
    number = np.int32(find() if is_first() else 0)
    return int(multihost_utils.broadcast_one_to_all(number))


def on_host(x: jax.Array) -> np.ndarray:
    """Return all entries of an array, also where other processes hold parts of it."""
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def no_failure(mine: CheckpointError | None) -> None:
    """Return if no process failed. Raises this process's error, or says that another process has one."""
    if gather(mine is not None).any():
        raise mine or CheckpointError("another process failed; its output says why")


def on_first(act: Callable[[], None]) -> None:
    """Let the first process act, such as write a file, once all have arrived; all return when it is done.

    Raises its CheckpointError in every process.

    Examples:
      >>> on_first(lambda: print("written once"))
      written once
    """
    if jax.process_count() == 1:
        return act()
    gather(True)  # else a late process could see the changes of the act, decide otherwise, and never arrive
    words = b""
    if is_first():
        try:
            act()
        except CheckpointError as error:
            words = str(error).encode()[:_LONGEST]
    padded = np.frombuffer(words.ljust(_LONGEST, b"\0"), np.uint8)
    if said := multihost_utils.broadcast_one_to_all(padded).tobytes().rstrip(b"\0"):
        raise CheckpointError(said.decode(errors="ignore"))
