"""What exact selection means, by sorting in numpy: a stable descending sort of the keys."""

import numpy as np


def order(scores: np.ndarray) -> np.ndarray:
    """The selection key as int64: NaN lowest, −0 = +0, denormals distinct."""
    scores = np.asarray(scores)
    if scores.dtype.kind in "iub":
        return scores.astype(np.int64)
    bits = scores.astype(np.float32).view(np.uint32).astype(np.int64)
    magnitude = bits & 0x7FFFFFFF
    key = np.where(bits >> 31, -magnitude, magnitude)
    return np.where(magnitude > 0x7F800000, -(2**40), key)


def top(scores: np.ndarray, k: int, alive: np.ndarray | None = None) -> np.ndarray:
    """The mask of the k largest alive entries; the lower flat index wins ties."""
    key = order(scores).ravel()
    if alive is not None:
        key = np.where(np.ravel(alive), key, -(2**41))
        k = min(k, int(np.sum(alive)))
    mask = np.zeros(key.size, bool)
    mask[np.argsort(-key, kind="stable")[:k]] = True
    return mask.reshape(np.shape(scores))


def count(density: float, n: int) -> int:
    """round-half-even(density · n), at least 1 if density > 0."""
    return max(int(np.rint(density * n)), 1 if density > 0 else 0) if n else 0
