"""What the API reference must know of the sources: a package's public names are those that its __init__ re-exports,
and doctests are code, not Markdown's quotations."""

import re
from typing import Any

import griffe

# Lines from a prompt to the next empty line.
_DOCTEST = re.compile(r"^>>>.*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


class PublicNames(griffe.Extension):
    """Exports re-exported names, and fences doctests."""

    def on_module(self, *, mod: griffe.Module, **kwargs: Any) -> None:
        """Names imported `as` themselves are public."""
        if mod.is_init_module:
            mod.exports = [name for name, member in mod.members.items() if member.is_alias]

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Makes each doctest a block of code."""
        if obj.docstring:
            obj.docstring.value = _DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
