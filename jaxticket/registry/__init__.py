"""The methods of the field by name: what each is, what it needs, and how to make it for a training."""

from jaxticket.registry.lookup import METHODS, get
from jaxticket.registry.method import Method, Setting

__all__ = [
    "METHODS",
    "Method",
    "Setting",
    "get",
]
