"""All methods, by name."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from jaxticket.errors import InputError
from jaxticket.registry import before, during, soft, strong
from jaxticket.registry.method import Method

__all__ = ["METHODS", "get"]

_ALL = (*before.METHODS, *during.METHODS, *soft.METHODS, *strong.METHODS)

METHODS: Mapping[str, Method] = MappingProxyType({m.name: m for m in _ALL})


def get(name: str) -> Method:
    """The method of this name. Raises InputError, naming those that are spelt alike, if there is none.

    >>> get("rigl").paper
    'Evci et al. 2020, RigL'
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS) or METHODS
        raise InputError(f"method {name!r} is not in the registry; perhaps one of these was meant: {', '.join(near)}")
    return METHODS[name]
