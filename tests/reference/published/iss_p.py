"""ISS-P: after each update the smallest weights of a leaf shrink by a factor; at the end they are cut."""

import math

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, largest

ABOUT = {
    "paper": "Wang et al., 2023",
    "repository": "Jiamian-Wang/Iterative-Soft-Shrinkage-SR",
    "commit": "6e11c43",
    "settings": {"density": 0.25, "stop": 16, "rate": 0.9},
    "deviations": [
        "The optimizer is SGD with momentum, where the authors use Adam: the shrinkage does not depend on it.",
        "The cut comes at a given step, where the authors clock it by a regularisation that grows.",
    ],
}


def run(density: float, stop: int, rate: float) -> list[dict]:
    problem = Problem(density)
    training = Run(problem.weights, {name: np.ones(w.shape, bool) for name, w in problem.weights.items()})
    for t in range(STEPS):
        strong = lambda w: largest(np.abs(w), w.size - math.ceil((1 - density) * w.size))
        if t == stop:
            training.refresh({name: strong(w) for name, w in training.weights.items()})
        training.step(problem.gradients[t])
        if t < stop:
            for name, w in training.weights.items():
                training.weights[name] = np.where(strong(w), w, rate * w)
            training.steps[-1]["weights"] = dict(training.weights)
    return training.steps
