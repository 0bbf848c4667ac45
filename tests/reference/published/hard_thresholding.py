"""Iterative hard thresholding: after each step of the optimizer the smallest weights of a leaf are zeroed."""

import math

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record

ABOUT = {
    "method": "project_l0",
    "test": "test_transform_traces",
    "paper": "Blumensath & Davies, 2009",
    "repository": "Jiamian-Wang/Iterative-Soft-Shrinkage-SR",
    "commit": "6e11c43",
    "settings": {"density": 0.25},
    "deviations": [
        "The repository is that of others, who compare with this method.",
        "SGD with momentum stands for their Adam.",
    ],
}


def run(density: float) -> list[dict]:
    problem, steps = Problem(density), []
    weights = Descent(problem.weights)
    for t in range(STEPS):
        weights.step(problem.slope(t, weights.values))
        mask = {}
        for name, w in weights.values.items():
            kept = np.ones(w.size, bool)
            kept[np.argsort(np.abs(w).ravel())[: math.ceil((1 - density) * w.size)]] = False
            mask[name] = kept.reshape(w.shape)
            weights.values[name] = w * mask[name]
        steps.append(record(mask, weights=weights.values, momentum=weights.momentum))
    return steps
