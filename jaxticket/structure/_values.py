"""The values that the walk for couplings carries: labels of the entries of every axis."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxticket.structure._atoms import Atoms
from jaxticket.structure._splits import Split


class Value(NamedTuple):
    """An array on its way.

    Attributes:
      labels: for each axis the atoms of its entries.
      null: for each axis, whether an entry is zero wherever all members of its atom are zero.
      copied: for each axis, whether a broadcast made it.
      scalar: the number, of a constant without axes.
    """

    labels: tuple[np.ndarray, ...]
    null: tuple[bool, ...]
    copied: tuple[bool, ...]
    scalar: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(len, self.labels))


class Axis(NamedTuple):
    """An axis of a value."""

    labels: np.ndarray
    null: bool = False
    copied: bool = False


def value(axes: Sequence[Axis]) -> Value:
    """Return the value with these axes."""
    return Value(tuple(a.labels for a in axes), tuple(a.null for a in axes), tuple(a.copied for a in axes))


def axis_of(v: Value, axis: int) -> Axis:
    """Return one axis of a value."""
    return Axis(v.labels[axis], v.null[axis], v.copied[axis])


class Product(NamedTuple):
    """A matrix product or convolution: the sizes of these axes, multiplied, are its multiply-adds."""

    output: tuple[np.ndarray, ...]
    summed: tuple[np.ndarray, ...]


class Node(NamedTuple):
    """An equation with the labels of what enters and leaves it, and the records of its bodies."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    bodies: tuple["Tape", ...] = ()
    product: Product | None = None


class Tape(NamedTuple):
    """The record of a walk: the constants in the order in which they were met, then the equations."""

    jaxpr: Any
    constants: list[Value]
    nodes: list[Node]
    outputs: tuple[Value, ...]
    repeats: int = 1


class Context:
    """The state of a walk, into which the rules write: atoms, splits, and the names of unknown primitives."""

    def __init__(self) -> None:
        self.atoms = Atoms()
        self.splits: list[Split] = []
        self.unknown: dict[str, None] = {}
        self.in_rule = False

    def fresh(self, shape: Sequence[int]) -> Value:
        """Return a value none of whose entries is coupled to another."""
        return value([Axis(self.atoms.fresh(n)) for n in shape])

    def pinned(self, shape: Sequence[int], reason: str) -> Value:
        """Return a value of which nothing can be removed."""
        return value([self.pinned_axis(n, reason) for n in shape])

    def pinned_axis(self, size: int, reason: str) -> Axis:
        """Return an axis of which nothing can be removed."""
        return Axis(self.atoms.pinned(size, reason), null=True)

    def freeze(self, v: Value, reason: str, axes: Sequence[int] | None = None) -> None:
        """Freeze axes of a value, all by default."""
        for axis in range(len(v.labels)) if axes is None else axes:
            self.atoms.freeze(v.labels[axis], reason)

    def join(self, a: Value, b: Value, axes: Sequence[int] | None = None) -> None:
        """Join two values of one rank along axes of equal size, all by default."""
        for axis in range(len(a.labels)) if axes is None else axes:
            if len(a.labels[axis]) == len(b.labels[axis]):
                self.atoms.join(a.labels[axis], b.labels[axis])
