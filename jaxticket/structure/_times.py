"""Measured times in a file, by device."""

import json
import math
import os
import pathlib
import platform
from collections.abc import Callable

import jax

from jaxticket.errors import InputError


class Store:
    """Times by name, of this device and version of JAX, in a file perhaps."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        device = jax.devices()[0]
        cores = f" {platform.machine()} {os.cpu_count()} cores" if device.platform == "cpu" else ""
        self._device = f"{device.device_kind}{cores}, jax {jax.__version__}"
        self._path = None if path is None else pathlib.Path(path)
        self._all: dict[str, dict[str, list[float]]] = {}
        if self._path is not None and self._path.exists():
            self._all = self._read(self._path)

    def take(self, name: str, measure: Callable[[], list[float]], count: int) -> list[float]:
        """Return the times of that name, which are measured and kept where they are missing."""
        own = self._all.setdefault(self._device, {})
        if name not in own:
            times = [float(x) for x in measure()]
            if not all(0 < x < math.inf for x in times):
                raise InputError(f"timer: {name} takes {times} seconds; times must be positive and finite")
            own[name] = times
            self._write()
        if len(own[name]) != count:
            raise InputError(f"cache: {name} has {len(own[name])} times in {self._path}, not {count}; delete the file")
        return own[name]

    def _read(self, path: pathlib.Path) -> dict[str, dict[str, list[float]]]:
        try:
            data = json.loads(path.read_text())
            return {
                device: {name: [float(x) for x in times] for name, times in by_name.items()}
                for device, by_name in data.items()
            }
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"cache: {path} holds no times of structure.latency ({error!r}); delete it") from error

    def _write(self) -> None:
        if self._path is not None:
            new = self._path.with_name(f"{self._path.name}.new")
            new.write_text(json.dumps(self._all, indent=1))
            new.replace(self._path)
