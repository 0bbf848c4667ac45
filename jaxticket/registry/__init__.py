"""The methods of the field by name: what each is, what it needs, and how to make it for a training."""

from jaxticket.registry._method import Method, Setting
from jaxticket.registry._table import METHODS, get

__all__ = [
    "METHODS",
    "Method",
    "Setting",
    "get",
]
