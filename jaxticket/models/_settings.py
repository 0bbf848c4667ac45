"""The settings of a config.json of transformers."""

from collections.abc import Mapping
from typing import Any

from jaxticket.errors import CheckpointError

_LARGEST = 2**24  # beyond all vocabularies, so that what a stranger wrote cannot exhaust the memory


class Settings:
    """The settings of a config.json. Each that is asked for is checked; errors name it."""

    def __init__(self, values: Mapping[str, Any], source: str):
        self._values, self._source = values, source

    def count(self, name: str, default: int | None = None) -> int:
        """Return a size; None and absence stand for the default."""
        value = self._values.get(name)
        value = default if value is None else value
        if type(value) is not int or not 1 <= value <= _LARGEST:
            raise self.error(name, f"it must be a whole number from 1 to {_LARGEST}")
        return value

    def number(self, name: str, default: float) -> float:
        """Return a positive number; None and absence stand for the default."""
        value = self._values.get(name)
        value = default if value is None else value
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise self.error(name, "it must be a positive number")
        return float(value)

    def choose(self, name: str, allowed: Mapping[str, str], default: str) -> str:
        """Return what a text stands for."""
        value = self._values.get(name, default)
        if not isinstance(value, str) or value not in allowed:
            raise self.error(name, f"supported are {[*allowed]}")
        return allowed[value]

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a bool; None stands for False."""
        value = self._values.get(name, default)
        if value not in (True, False, None):
            raise self.error(name, "it must be true or false")
        return bool(value)

    def require(self, **supported: Any) -> None:
        """Refuse other values of settings that change the function; absence and None are fine."""
        for name, value in supported.items():
            if self._values.get(name) not in (value, None):
                raise self.error(name, f"only {value!r} is supported")

    def part(self, name: str) -> "Settings":
        """Return the settings within a setting; none where it is absent or None."""
        values = self._values.get(name) or {}
        if not isinstance(values, Mapping):
            raise self.error(name, "it must hold settings")
        return Settings(values, f"{self._source}, {name}")

    def has(self, name: str) -> bool:
        """Whether a setting is there and not None."""
        return self._values.get(name) is not None

    def error(self, name: str, fix: str) -> CheckpointError:
        """Return the error about a setting."""
        return CheckpointError(f"{self._source}: {name}={self._values.get(name)!r:.100}; {fix}")
