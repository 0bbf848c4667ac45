"""A union-find over atoms: entries of axes that can be removed only together, or not at all."""

import numpy as np

_NONE = np.iinfo(np.int32).max


class Atoms:
    """Atoms, the classes that they were joined to, and why a class is frozen or inexact.

    Atoms are integers. Everything takes arrays of them. The first reason for which a class was frozen stays.
    """

    def __init__(self) -> None:
        self.count = 0
        self.reasons: list[str] = []
        self._parent = np.zeros(1024, np.int64)
        self._frozen = np.full(1024, _NONE, np.int32)
        self._inexact = np.full(1024, _NONE, np.int32)
        self._ids: dict[str, int] = {}
        self._shared: dict[str, int] = {}

    def fresh(self, count: int) -> np.ndarray:
        """Return that many new atoms."""
        while self.count + count > len(self._parent):
            self._parent = np.concatenate([self._parent, np.zeros_like(self._parent)])
            self._frozen = np.concatenate([self._frozen, np.full_like(self._frozen, _NONE)])
            self._inexact = np.concatenate([self._inexact, np.full_like(self._inexact, _NONE)])
        new = np.arange(self.count, self.count + count)
        self._parent[new] = new
        self.count += count
        return new

    def pinned(self, count: int, reason: str) -> np.ndarray:
        """Return the frozen atom of a reason, that many times."""
        if reason not in self._shared:
            atom = self.fresh(1)
            self.freeze(atom, reason)
            self._shared[reason] = int(atom[0])
        return np.full(count, self._shared[reason])

    def roots(self, atoms: np.ndarray) -> np.ndarray:
        """Return the representatives of the classes of atoms."""
        roots = self._parent[atoms]
        while True:
            higher = self._parent[roots]
            if (higher == roots).all():
                break
            roots = higher
        self._parent[atoms] = roots
        return roots

    def join(self, a: np.ndarray, b: np.ndarray) -> None:
        """Join the classes of a[i] and b[i] for every i. Frozen classes stay apart, so that reasons stay readable."""
        while True:
            a, b = self.roots(a), self.roots(b)
            frozen_a, frozen_b = self._frozen[a] != _NONE, self._frozen[b] != _NONE
            differ = (a != b) & ~(frozen_a & frozen_b)
            if not differ.any():
                return
            a, b, frozen_a, frozen_b = a[differ], b[differ], frozen_a[differ], frozen_b[differ]
            if (frozen_a | frozen_b).any():
                self._parent[b[frozen_a]] = a[frozen_a]
                self._parent[a[frozen_b]] = b[frozen_b]
                continue
            low, high = np.minimum(a, b), np.maximum(a, b)
            np.minimum.at(self._parent, high, low)
            np.minimum.at(self._inexact, low, self._inexact[high])

    def freeze(self, atoms: np.ndarray, reason: str) -> None:
        """Freeze classes: nothing in them can be removed."""
        self._mark(self._frozen, atoms, reason)

    def flag(self, atoms: np.ndarray, reason: str) -> None:
        """Flag classes as inexact: their removal changes more than it would change to zero them."""
        self._mark(self._inexact, atoms, reason)

    def frozen(self, atoms: np.ndarray) -> np.ndarray:
        """Return whether atoms are frozen."""
        return self._frozen[self.roots(atoms)] != _NONE

    def why_frozen(self, atom: int) -> str | None:
        """Return why an atom is frozen, or None."""
        return self._reason(self._frozen, atom)

    def why_inexact(self, atom: int) -> str | None:
        """Return why an atom is inexact, or None."""
        return self._reason(self._inexact, atom)

    def _mark(self, marks: np.ndarray, atoms: np.ndarray, reason: str) -> None:
        roots = self.roots(atoms)
        if reason not in self._ids:
            self._ids[reason] = len(self.reasons)
            self.reasons.append(reason)
        marks[roots] = np.minimum(marks[roots], self._ids[reason])

    def _reason(self, marks: np.ndarray, atom: int) -> str | None:
        index = marks[self.roots(np.array([atom]))[0]]
        return None if index == _NONE else self.reasons[index]
