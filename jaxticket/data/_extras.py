"""Imports of the packages that `jaxticket[data]` brings, with an error that says so where one is absent."""

import contextlib
from collections.abc import Iterator

from jaxticket.errors import MissingExtraError


@contextlib.contextmanager
def needs(package: str) -> Iterator[None]:
    """Turn an ImportError inside the block into a MissingExtraError that names the package."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(package, "data") from error
