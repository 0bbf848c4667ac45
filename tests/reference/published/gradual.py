"""Gradual magnitude pruning: a cubic descent in each leaf, refreshed every few steps and at its end."""

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, count_of, largest

ABOUT = {
    "paper": "Zhu & Gupta, 2017",
    "repository": None,
    "commit": None,
    "settings": {"density": 0.12, "start": 2, "stop": 18, "every": 4},
    "deviations": ["Pruned weights are zero and stay pruned, where the authors freeze them, so that they may return."],
}


def run(density: float, start: int, stop: int, every: int) -> list[dict]:
    problem = Problem(density)
    training = Run(problem.weights, {name: np.ones(w.shape, bool) for name, w in problem.weights.items()})
    for t in range(STEPS):
        if start <= t <= stop and (t - start) % every == 0:
            sparsity = (1 - density) * (1 - (1 - (t - start) / (stop - start)) ** 3)
            training.refresh(
                {
                    name: largest(np.abs(training.weights[name]), count_of(1 - sparsity, m), m)
                    for name, m in training.mask.items()
                }
            )
        training.step(problem.gradients[t])
    return training.steps
