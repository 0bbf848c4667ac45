"""How the values of arguments go wrong: a tree that lacks a leaf, a density of 1.5, a regular expression that is none.

A role is a value that is right, and knows those that are not. What must be refused is marked; whatever else is refused,
is refused in words.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import (
    filters,
)


class Wrong(NamedTuple):
    """A value that is wrong: must it be refused, and shall the message name a leaf?"""

    what: str
    value: Any
    refused: bool
    leaf: str | None = None


@dataclasses.dataclass(frozen=True)
class Role:
    """A value that is right, and what kind of value it is."""

    value: Any

    def wrong(self) -> Iterator[Wrong]:
        yield from ()


UNFIT = [
    ("text", "abc"),
    ("an object", object()),
    ("an array of objects", np.array([[None] * 6] * 4)),
    ("an array of text", np.array([["x"] * 6] * 4)),
]


@dataclasses.dataclass(frozen=True)
class Tree(Role):
    """A pytree of arrays; `paired` with another argument that must have the same structure and shapes."""

    paired: bool = True
    filtered: bool = False  # by path and type, so that anything goes
    used: bool = False  # by a function of the user's, which fails in its own words where shapes do not fit

    def wrong(self) -> Iterator[Wrong]:
        if self.filtered:
            yield from (wrong._replace(refused=False) for wrong in Tree(self.value).wrong())
            return
        if self.used:
            for what, leaf in UNFIT:
                yield Wrong(f"{what} for a leaf", self._with(leaf), True, "a/kernel")
            return
        tree = self.value
        yield Wrong("None", None, self.paired)
        yield Wrong("a list for a dict", list(tree.values()), self.paired)
        yield Wrong("a leaf less", {"a": {"kernel": tree["a"]["kernel"]}, "b": tree["b"]}, self.paired)
        yield Wrong("a leaf more", {**tree, "c": jnp.ones(3)}, self.paired)
        yield Wrong("an empty tree", {}, self.paired)
        yield Wrong("text", "kernel", True)
        for what, leaf, refused in [
            *((what, leaf, True) for what, leaf in UNFIT),
            ("a list", [[1.0] * 6] * 4, self.paired),
            ("another shape", jnp.ones((5, 7)), False),
            ("another shape, of as many axes less", jnp.ones(24), False),
            ("complex numbers", jnp.ones((4, 6), complex), False),
            ("whole numbers", jnp.ones((4, 6), int), False),
            ("truth values", jnp.ones((4, 6), bool), False),
            ("a scalar", jnp.ones(()), False),
            ("a number", 1.0, False),
            ("no entries", jnp.ones((0, 6)), False),
            ("None", None, False),
        ]:
            yield Wrong(f"{what} for a leaf", self._with(leaf), refused, "a/kernel" if what != "a list" else None)

    def _with(self, leaf: Any) -> Any:
        return {**self.value, "a": {**self.value["a"], "kernel": leaf}}


@dataclasses.dataclass(frozen=True)
class MaskTree(Tree):
    """A mask: as a tree of arrays, and bool; where it is `optional`, None stands for no mask."""

    optional: bool = False

    def wrong(self) -> Iterator[Wrong]:
        yield from (wrong for wrong in super().wrong() if not (self.optional and wrong.what == "None"))
        yield Wrong("floats for a leaf", self._with(jnp.ones((4, 6))), True, "a/kernel")
        yield Wrong("whole numbers for a leaf", self._with(jnp.ones((4, 6), int)), True, "a/kernel")
        if self.paired:
            yield Wrong("another shape for a leaf", self._with(jnp.ones((5, 6), bool)), True, "a/kernel")
            yield Wrong("another number of axes", self._with(jnp.ones(6, bool)), True, "a/kernel")


class Fraction(Role):
    """A number in [0, 1]."""

    def wrong(self) -> Iterator[Wrong]:
        for value in (-0.1, 1.5, float("nan"), float("inf"), -float("inf"), np.float32(1.5), "0.5", object()):
            yield Wrong(repr(value)[:20], value, True)
        for value in (0.0, 1.0, 0, 1, True, np.float64(0.3), jnp.float32(0.3), [0.5], 1j):
            yield Wrong(repr(value)[:20], value, False)


class Number(Role):
    """Any number."""

    def wrong(self) -> Iterator[Wrong]:
        for value in ("3", None, 1j, object()):
            yield Wrong(repr(value)[:20], value, True)
        for value in (float("nan"), -1, np.float32(2), jnp.float32(2)):
            yield Wrong(repr(value), value, False)


@dataclasses.dataclass(frozen=True)
class Axis(Role):
    """An axis, counted from either end; where it is `optional`, None stands for none."""

    optional: bool = False

    def wrong(self) -> Iterator[Wrong]:
        for value in (7, -7, 1.5, "3", None, True):
            yield Wrong(repr(value), value, not (self.optional and value is None))


class Count(Role):
    """A whole number from 0 or 1 on."""

    def wrong(self) -> Iterator[Wrong]:
        for value in (-1, "3"):
            yield Wrong(repr(value), value, True)
        for value in (0, 1.5, float("nan"), float("inf"), np.int64(2), None):
            yield Wrong(repr(value), value, False)


class Positive(Role):
    """A number above 0."""

    def wrong(self) -> Iterator[Wrong]:
        for value in (-1.0, float("nan"), "3"):
            yield Wrong(repr(value), value, True)
        for value in (0.0, float("inf"), None):
            yield Wrong(repr(value), value, False)


class Rules(Role):
    """A mapping from regular expressions to values."""

    def wrong(self) -> Iterator[Wrong]:
        (_, value), *_ = self.value.items()
        yield Wrong("no regular expression", {"(": value}, True)
        yield Wrong("matches nothing", {**self.value, "nowhere": value}, True)
        yield Wrong("another rule matches first", {"a/": value, "kernel": value, "a/kernel": value}, True)
        yield Wrong("twice the same leaves", {"kernel$": value, "kernel": value}, True)
        yield Wrong("a list", list(self.value), True)
        yield Wrong("a number for a regular expression", {3: value}, True)
        yield Wrong("no rules", {}, False)


class Stack(Rules):
    """A mapping from regular expressions to stacked axes."""

    def wrong(self) -> Iterator[Wrong]:
        yield from super().wrong()
        (regex, _), *_ = self.value.items()
        for axes in (7, -7, 1.5, "0", None, True, (), (0, 0), (0, -2), (0, "1"), object()):
            yield Wrong(repr(axes)[:20], {regex: axes}, True)
        yield Wrong("text", "kernel", True)
        yield Wrong("None", None, False)


@dataclasses.dataclass(frozen=True)
class Regex(Role):
    """A regular expression that some leaf must match; where it is `optional`, None stands for none."""

    optional: bool = False

    def wrong(self) -> Iterator[Wrong]:
        for value in ("(", "a{99999999999999}", "(" * 9999 + ")" * 9999, None, 3):
            yield Wrong(repr(value)[:20], value, not (self.optional and value is None))


class Filter(Role):
    """A filter, or what it gives."""

    def wrong(self) -> Iterator[Wrong]:
        yield Wrong("matches nothing", filters.match("nowhere"), True)
        yield Wrong("another structure", {"a": True}, True)
        yield Wrong("gives another structure", lambda params: True, True)
        yield Wrong("None", None, True)
        yield Wrong("text", "kernel", True)


class Random(Role):
    """A key of jax.random."""

    def wrong(self) -> Iterator[Wrong]:
        for value in (7, "seed", jnp.ones(2), jax.random.split(jax.random.key(0)), object()):
            yield Wrong(repr(value)[:20], value, True)
        yield Wrong("None", None, False)


class Array(Role):
    """One array."""

    def wrong(self) -> Iterator[Wrong]:
        for value in ("text", object(), np.array(["x"])):
            yield Wrong(repr(value)[:20], value, True)
        shape = self.value.shape
        others = (
            jnp.ones(()),
            jnp.ones(0),
            jnp.ones((2, 3, 4, 5)),
            jnp.ones(shape, int),
            jnp.ones(shape, complex),
            None,
        )
        for value in others:
            yield Wrong(f"{getattr(value, 'dtype', None)}{getattr(value, 'shape', '')}", value, False)


class Numbers(Role):
    """A sequence of numbers."""

    def wrong(self) -> Iterator[Wrong]:
        for value in ("text", [object()], ["x"]):
            yield Wrong(repr(value)[:20], value, True)
        for value in ([], [float("nan")] * len(self.value), list(self.value)[:1], None, 3):
            yield Wrong(repr(value)[:20], value, False)
