"""HRank: filters whose feature maps after the ReLU have the highest mean rank over the examples stay."""

import numpy as np

from tests.reference.problem import largest

ABOUT = {
    "paper": "Lin et al., 2020",
    "repository": "lmbxmu/HRank",
    "commit": "c03ac85",
    "settings": {"density": 0.5},
    "deviations": [],
}


def problem() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return a kernel (3, 3, in, out), its biases, and batches (examples, height, width, in)."""
    generator = np.random.default_rng(3)
    batches = [generator.standard_normal((5, 6, 6, 2)) for _ in range(3)]
    return generator.standard_normal((3, 3, 2, 8)), np.linspace(-9, 0, 8), batches


def rounds(density: float) -> list[dict]:
    kernel, biases, batches = problem()
    mean, total = np.zeros(len(biases)), 0
    for batch in batches:
        ranks = np.array([[np.linalg.matrix_rank(a) for a in _maps(x, kernel, biases)] for x in batch])
        mean = (mean * total + ranks.sum(0)) / (total + len(batch))
        total += len(batch)
    mask = largest(mean, round(density * len(mean)))
    assert mean[mask].min() > mean[~mask].max()
    return [{"mask": {"kernel": mask}, "living": {"kernel": int(mask.sum())}, "ranks": {"kernel": mean}}]


def _maps(x: np.ndarray, kernel: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """Return the maps (out, height, width) of an example after the ReLU, padded so that they keep its size."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    return np.maximum(np.einsum("hwiyx,yxio->ohw", windows, kernel) + biases[:, None, None], 0)
