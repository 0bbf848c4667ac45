"""AC/DC: sparse and dense phases take turns; pruning is global, and momentum restarts with each dense phase."""

import math

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, largest

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
            flat = np.concatenate([np.abs(w).ravel() for w in training.weights.values()])
            kept = largest(flat, math.floor(density * flat.size + 0.5))
            ends = np.cumsum([w.size for w in training.weights.values()])[:-1]
            parts = zip(training.weights.items(), np.split(kept, ends), strict=True)
            training.refresh({name: part.reshape(w.shape) for (name, w), part in parts})
        if t in [round(part * steps) for part in decompress]:
            training.refresh({name: np.ones(w.shape, bool) for name, w in training.weights.items()})
            training.momentum = {name: np.zeros(w.shape) for name, w in training.weights.items()}
        training.step(problem.gradients[t])
    return training.steps
