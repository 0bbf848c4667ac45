"""Measured times in a file, by device."""

import json
import math
import os
import pathlib
import platform
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket.errors import InputError
from jaxticket.files import write_text


class Store:
    """Times by name, of this device and version of JAX, in a file perhaps."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        device = next(iter(jnp.zeros(()).devices()))  # that of new arrays, which jax.default_device changes
        cores = f" {platform.machine()} {os.cpu_count()} cores" if device.platform == "cpu" else ""
        self._device = f"{device.device_kind}{cores}, jax {jax.__version__}"
        self._path = None if path is None else pathlib.Path(path)
        if self._path is not None and not self._path.absolute().parent.is_dir():
            raise InputError(f"cache: {self._path} lies in no folder that is there; make the folder first")
        self._all: dict[str, dict[str, list[float]]] = {}
        if self._path is not None and self._path.exists():
            self._all = self._read(self._path)

    def take(self, name: str, measure: Callable[[], list[float]], count: int) -> list[float]:
        """Return the times of that name, which are measured and kept where they are missing."""
        own = self._all.setdefault(self._device, {})
        if name not in own:
            times = [float(x) for x in measure()]
            if not _are_times(times):
                raise InputError(f"timer: {name} takes {times} seconds; times must be positive and finite")
            own[name] = times
            self._write()
        if len(own[name]) != count:
            raise InputError(f"cache: {name} has {len(own[name])} times in {self._path}, not {count}; delete the file")
        return own[name]

    def _read(self, path: pathlib.Path) -> dict[str, dict[str, list[float]]]:
        try:
            data = json.loads(path.read_text())
            lists = [times for by_name in data.values() for times in by_name.values()]
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise InputError(f"cache: {path} holds no times of structure.latency ({error!r}); delete it") from error
        if not all(map(_are_times, lists)):
            raise InputError(f"cache: {path} holds no times of structure.latency (seconds above 0); delete it")
        return data

    def _write(self) -> None:
        if self._path is not None:
            write_text(self._path, json.dumps(self._all, indent=1))


def _are_times(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(x, float) and 0 < x < math.inf for x in values)
