"""AC/DC: sparse and dense phases take turns; pruning is global, and momentum restarts with each dense phase."""

import math

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, largest_in_tree

ABOUT = {
    "paper": "Peste et al., 2021",
    "repository": "IST-DASLab/ACDC",
    "commit": "ac53210",
    "settings": {"density": 0.25, "steps": STEPS, "compress": [0.25, 0.75], "decompress": [0.5]},
    "deviations": [],
}


def run(density: float, steps: int, compress: list[float], decompress: list[float]) -> list[dict]:
    problem = Problem(density)
    training = Run(problem.weights, {name: np.ones(w.shape, bool) for name, w in problem.weights.items()})
    for t in range(STEPS):
        if t in [round(part * steps) for part in compress]:
            sizes = {name: np.abs(w) for name, w in training.weights.items()}
            total = sum(w.size for w in sizes.values())
            training.refresh(largest_in_tree(sizes, math.floor(density * total + 0.5)))
        if t in [round(part * steps) for part in decompress]:
            training.refresh({name: np.ones(w.shape, bool) for name, w in training.weights.items()})
            training.momentum = {name: np.zeros(w.shape) for name, w in training.weights.items()}
        training.step(problem.gradients[t])
    return training.steps
