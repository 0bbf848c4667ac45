"""Axes that a reshape splits or merges: which of the factors may be pruned."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from jaxticket.structure._atoms import Atoms

Prefer = Literal["outer", "inner"]


class Split(NamedTuple):
    """An axis whose entries are those of several axes, the last one fastest.

    Attributes:
      flat: the atoms of the axis.
      axes: the atoms of the factors, none of size 1.
      copies: for each factor, whether a broadcast made it.
    """

    flat: np.ndarray
    axes: tuple[np.ndarray, ...]
    copies: tuple[bool, ...]


def blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return the least runs of axes of two shapes that hold the same number of entries; axes of size 1 are left out.

    Examples:
      >>> blocks((2, 12, 5), (2, 3, 4, 1, 5))
      [([0], [0]), ([1], [1, 2]), ([2], [4])]
    """
    runs = []
    olds = [axis for axis, n in enumerate(old) if n != 1]
    news = [axis for axis, n in enumerate(new) if n != 1]
    while olds:
        left, right = [olds.pop(0)], [news.pop(0)]
        while (a := math.prod(old[i] for i in left)) != (b := math.prod(new[i] for i in right)):
            (left if a < b else right).append((olds if a < b else news).pop(0))
        runs.append((left, right))
    return runs


def refine(left: Sequence[int], right: Sequence[int]) -> list[int] | None:
    """Return the sizes of the coarsest factors of which both runs of sizes consist, or None.

    Examples:
      >>> refine((4, 6), (8, 3)), refine((4, 6), (6, 4))
      ([4, 2, 3], None)
    """
    sizes, a, b = [], list(left), list(right)
    while a:
        n = math.gcd(a[0], b[0])
        if n != min(a[0], b[0]):
            return None
        sizes.append(n)
        for run in (a, b):
            rest = run.pop(0) // n
            if rest > 1:
                run.insert(0, rest)
    return sizes


def resolve(atoms: Atoms, splits: Sequence[Split], prefer: Prefer) -> None:
    """Choose for every split the factor that can be pruned, freeze the others, and join its entries with the flat axis.

    What leaves no choice is decided first. Where several factors are free, `prefer` decides, one split at a time.
    """
    open_splits = list(splits)
    while open_splits:
        decided = [s for s in open_splits if _settle(atoms, s)] or [s for s in open_splits if _single_out(atoms, s)]
        if not decided:
            decided = [open_splits[0]]
            _choose(atoms, open_splits[0], _preferred(atoms, open_splits[0], prefer))
        open_splits = [s for s in open_splits if not any(s is d for d in decided)]


def _settle(atoms: Atoms, split: Split) -> bool:
    """Decide a split that leaves at most one choice, and return whether it did."""
    free = [axis for axis, ok in enumerate(_free(atoms, split)) if ok.any()]
    if len(free) > 1:
        return False
    if free:
        _choose(atoms, split, free[0])
    else:
        for labels in (split.flat, *split.axes):
            atoms.freeze(labels, "a reshape merges it with axes that stay")
    return True


def _single_out(atoms: Atoms, split: Split) -> bool:
    """Decide a split of which one factor alone leaves several channels, and return whether it did."""
    free = [axis for axis, ok in enumerate(_free(atoms, split)) if ok.any()]
    separate = [axis for axis in free if _separate(atoms, split, axis)]
    if len(separate) != 1:
        return False
    _choose(atoms, split, separate[0])
    return True


def _free(atoms: Atoms, split: Split) -> list[np.ndarray]:
    """Return for each factor which of its entries could be removed, with all entries of the flat axis that hold it."""
    sizes = [len(labels) for labels in split.axes]
    flat = atoms.frozen(split.flat).reshape(sizes)
    return [
        ~atoms.frozen(labels) & ~flat.any(tuple(a for a in range(len(sizes)) if a != axis))
        for axis, labels in enumerate(split.axes)
    ]


def _preferred(atoms: Atoms, split: Split, prefer: Prefer) -> int:
    free = _free(atoms, split)
    order = range(len(free)) if prefer == "outer" else reversed(range(len(free)))

    def worth(axis: int) -> tuple[bool, ...]:
        return bool(free[axis].all()), _separate(atoms, split, axis), not split.copies[axis], bool(free[axis].any())

    return max(order, key=worth)


def _separate(atoms: Atoms, split: Split, axis: int) -> bool:
    """Whether the entries of a factor would be several channels, and not a single one that owns the whole flat axis."""
    sizes = [len(labels) for labels in split.axes]
    slices = np.moveaxis(atoms.roots(split.flat).reshape(sizes), axis, 0).reshape(sizes[axis], -1)
    trial = Atoms()
    names, index = np.unique(slices, return_inverse=True)
    trial.fresh(len(names))
    index = index.reshape(slices.shape)
    trial.join(index[:, 1:].ravel(), np.repeat(index[:, 0], slices.shape[1] - 1))
    return len(set(trial.roots(index[:, 0]).tolist())) > 1


def _choose(atoms: Atoms, split: Split, chosen: int) -> None:
    sizes = [len(labels) for labels in split.axes]
    for axis, labels in enumerate(split.axes):
        if axis != chosen:
            atoms.freeze(labels, "a reshape merges it with an axis that is pruned instead")
    shape = [n if axis == chosen else 1 for axis, n in enumerate(sizes)]
    atoms.join(split.flat, np.broadcast_to(split.axes[chosen].reshape(shape), sizes).ravel())
