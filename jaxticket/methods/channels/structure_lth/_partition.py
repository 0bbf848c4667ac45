"""Balanced partitions of rows that share columns: recursive bisection, refined after Fiduccia and Mattheyses (1982)."""

import math

import numpy as np

from jaxticket._checks import check_array, check_count, check_fraction
from jaxticket.errors import InputError

_STARTS = 8  # rows from which a half is grown; the best bisection of all is kept


def partition(incidence: np.ndarray, parts: int, *, imbalance: float = 0.0) -> np.ndarray:
    """Divide rows into parts of nearly equal sizes that cut few columns.

    Rows are the vertices of a hypergraph. A column is an edge that joins the rows in which it is True, and is cut where
    these lie in several parts. The rows are halved, and the halves again by what is left of their columns. Each half is
    grown from a row by Jaccard similarity, and rows are moved between both while fewer edges are cut. All ties go to
    the lower row, so that the result is always the same.

    Args:
      incidence: bool array (rows, columns).
      parts: the number of parts, some of which are empty where there are fewer rows.
      imbalance: the part by which sizes may differ from the mean, where it allows more than the next whole number.

    Returns:
      int array (rows,): the part of each row, from 0.

    Raises:
      InputError: an array that is not a matrix of bool, no parts, or an imbalance outside [0, 1].

    Examples:
      >>> import numpy as np
      >>> rows = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]], bool)
      >>> partition(rows, 2)
      array([0, 1, 0, 1])

    References:
      Karypis et al., `Multilevel Hypergraph Partitioning: Applications in VLSI Domain
      <https://doi.org/10.1109/92.748202>`_, 1999 (hMETIS, in whose place this stands)

      Fiduccia & Mattheyses, `A Linear-Time Heuristic for Improving Network Partitions
      <https://doi.org/10.1109/DAC.1982.1585498>`_, 1982
    """
    _check_incidence(incidence)
    check_count(1, parts=parts)
    check_fraction("imbalance", imbalance)
    pins, mean = np.asarray(incidence), len(incidence) / parts
    most = max(-(-len(pins) // parts), int((1 + imbalance) * mean))
    least = min(len(pins) // parts, math.ceil((1 - imbalance) * mean))
    labels = np.zeros(len(pins), int)
    _divide(pins, labels, np.arange(len(pins)), 0, parts, (least, most))
    return labels


def count_cut(incidence: np.ndarray, labels: np.ndarray) -> int:
    """Return the number of columns that a partition cuts.

    Args:
      incidence: bool array (rows, columns).
      labels: int array (rows,), the part of each row.

    Returns:
      The number of columns that are True in rows of several parts.

    Raises:
      InputError: an array that is not a matrix of bool.

    Examples:
      >>> import numpy as np
      >>> count_cut(np.array([[1, 1, 0], [0, 1, 1]], bool), np.array([0, 1]))
      1
    """
    _check_incidence(incidence)
    parts = [np.asarray(incidence)[labels == part].any(0) for part in np.unique(labels)]
    return int((np.sum(parts, axis=0) > 1).sum())


def _check_incidence(incidence: np.ndarray) -> None:
    check_array("incidence", incidence, np.bool_)
    if incidence.ndim != 2:
        raise InputError(f"incidence has shape {incidence.shape}; pass a matrix (rows, columns).")


def _divide(
    pins: np.ndarray, labels: np.ndarray, rows: np.ndarray, first: int, parts: int, sizes: tuple[int, int]
) -> None:
    """Label rows with `parts` parts from `first` on, each of a size between two bounds."""
    labels[rows] = first
    if parts == 1:
        return
    (least, most), half = sizes, (parts + 1) // 2
    low = max(half * least, len(rows) - (parts - half) * most)
    high = min(half * most, len(rows) - (parts - half) * least)
    side = _bisect(pins[rows], low, high)
    _divide(pins, labels, rows[side], first, half, sizes)
    _divide(pins, labels, rows[~side], first + half, parts - half, sizes)


def _bisect(pins: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return the rows of the first half, of which there are `low` to `high`: bool (rows,)."""
    edges = pins[:, pins.sum(0) > 1].astype(float)
    size, best = (low + high) // 2, (np.inf, np.arange(len(pins)) < (low + high) // 2)
    if not edges.size or not 0 < size < len(pins):
        return best[1]
    similarity = _jaccard(edges)
    for seed in np.unique(np.linspace(0, len(pins) - 1, _STARTS).astype(int)):
        side = _refine(edges, _grow(similarity, seed, size), low, high)
        cut = count_cut(edges > 0, side)
        best = min(best, (cut, side), key=lambda halves: halves[0])  # of equal ones the first
    return best[1]


def _jaccard(edges: np.ndarray) -> np.ndarray:
    common = edges @ edges.T
    degrees = common.diagonal()
    return common / np.maximum(degrees[:, None] + degrees[None] - common, 1)


def _grow(similarity: np.ndarray, seed: int, size: int) -> np.ndarray:
    """Return a half that starts from a row, and takes in the row most similar to all of it, one after another."""
    side = np.zeros(len(similarity), bool)
    pull = np.zeros(len(similarity))
    for _ in range(size):
        row = int(np.argmax(np.where(side, -np.inf, pull))) if side.any() else seed
        side[row] = True
        pull += similarity[row]
    return side


def _refine(edges: np.ndarray, side: np.ndarray, low: int, high: int) -> np.ndarray:
    """Repeat passes while they cut fewer edges."""
    while True:
        better, saved = _move(edges, side, low, high)
        if saved <= 0:
            return side
        side = better


def _move(edges: np.ndarray, side: np.ndarray, low: int, high: int) -> tuple[np.ndarray, float]:
    """Move each row once, the best first even at a loss; return the best halves on the way, and the edges saved.

    On the way the sizes may be off by one, so that rows can change places.
    """
    now, free, size = side.copy(), np.ones(len(side), bool), int(side.sum())
    inside, outside = edges[now].sum(0), edges[~now].sum(0)
    gains = np.where(now, edges @ _worth(inside, outside), edges @ _worth(outside, inside))
    total, best, halves = 0.0, 0.0, side
    while (can := free & np.where(now, size >= max(low, 1), size <= high)).any():
        row = int(np.argmax(np.where(can, gains, -np.inf)))
        total += gains[row]
        own = np.flatnonzero(edges[row])
        before = _worth(inside[own], outside[own]), _worth(outside[own], inside[own])
        step = -1 if now[row] else 1
        inside[own] += step
        outside[own] -= step
        now[row], free[row], size = not now[row], False, size + step
        after = _worth(inside[own], outside[own]), _worth(outside[own], inside[own])
        changes = after[0] - before[0], after[1] - before[1]
        moved = (changes[0] != 0) | (changes[1] != 0)
        near = edges[:, own[moved]]
        gains += np.where(now, near @ changes[0][moved], near @ changes[1][moved])
        if low <= size <= high and total > best:
            best, halves = total, now.copy()
    return halves, best


def _worth(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return for each edge the cut edges that it saves if one of its rows moves from here to there: 1, 0 or −1."""
    return (here == 1).astype(float) - (there == 0)
