"""Wanda with 2:4 sparsity: of each four inputs an output keeps the two of the highest scores."""

import numpy as np

from tests.reference.network import record
from tests.reference.problem import largest
from tests.reference.published import wanda

ABOUT = {
    **wanda.ABOUT,
    "method": "wanda",
    "settings": {"density": 0.5, "group": 4},
    "deviations": wanda.ABOUT["deviations"][:1],
}


def rounds(density: float, group: int) -> list[dict]:
    scores = wanda.scores()
    mask = {name: np.zeros(s.shape, bool) for name, s in scores.items()}
    for name, s in scores.items():
        for i in range(0, len(s), group):
            for j in range(s.shape[1]):
                mask[name][i : i + group, j] = largest(s[i : i + group, j], round(density * group))
    return [record(0, mask, scores)]
