"""Soft filter pruning: after each epoch the filters of the smallest norms are set to zero, and train on."""

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, largest

ABOUT = {
    "paper": "He et al., 2018",
    "repository": "he-y/soft-filter-pruning",
    "commit": "919c399",
    "settings": {"density": 0.5, "every": 4},
    "deviations": ["Filters are set to zero after epochs alone, where the authors do so before the first one, too."],
}


def start(problem: Problem) -> dict:
    """Return weights so small that filters which were set to zero come back in an epoch."""
    return {name: 0.1 * w for name, w in problem.weights.items()}


def run(density: float, every: int) -> list[dict]:
    problem = Problem(density)
    training = Run(start(problem), {name: np.ones(w.shape, bool) for name, w in problem.weights.items()})
    for t in range(STEPS):
        training.step(problem.gradients[t])
        if (t + 1) % every == 0:
            for name, w in training.weights.items():
                training.weights[name] = w * largest(np.linalg.norm(w, axis=0), round(density * w.shape[1]))
            training.steps[-1]["weights"] = dict(training.weights)
    return [{what: step[what] for what in ("weights", "momentum")} for step in training.steps]
