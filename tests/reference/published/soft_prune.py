"""Soft filter pruning: after each epoch the filters of the smallest norm are zeroed, and train on."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record

ABOUT = {
    "test": "test_transform_traces",
    "paper": "He et al., 2018",
    "repository": "he-y/soft-filter-pruning",
    "commit": "919c399",
    "settings": {"density": 0.5, "epoch": 3},
    "deviations": [
        "Filters are not pruned before the first epoch.",
        "The number of kept filters is rounded, where the authors truncate that of the others.",
    ],
}


def run(density: float, epoch: int) -> list[dict]:
    problem, steps = Problem(density), []
    weights = Descent(problem.weights)
    for t in range(STEPS):
        weights.step(problem.slope(t, weights.values))
        if (t + 1) % epoch == 0:
            weights.values = {name: w * _keep_filters(w, density) for name, w in weights.values.items()}
        mask = {name: w != 0 for name, w in weights.values.items()}
        steps.append(record(mask, weights=weights.values, momentum=weights.momentum))
    return steps


def _keep_filters(w: np.ndarray, density: float) -> np.ndarray:
    kept = np.ones(w.shape, bool)
    kept[:, np.argsort(np.linalg.norm(w, axis=0))[: int(w.shape[1] * (1 - density))]] = False
    return kept
