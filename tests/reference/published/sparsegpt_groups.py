"""SparseGPT with 2:4 sparsity: of each four inputs an output keeps two, chosen when the first of them is reached."""

import numpy as np

from tests.reference.problem import largest
from tests.reference.published import sparsegpt

ABOUT = {
    **sparsegpt.ABOUT,
    "method": "sparsegpt",
    "settings": {"density": 0.5, "group": 4},
    "deviations": sparsegpt.ABOUT["deviations"][1:],
}


def rounds(density: float, group: int) -> list[dict]:
    def choose(current: np.ndarray, diagonal: np.ndarray, start: int) -> np.ndarray | None:
        if start % group:
            return None
        scores = (current / diagonal)[:, :group] ** 2
        return np.stack([largest(row, round(density * group)) for row in scores])

    return sparsegpt.prune(choose)
