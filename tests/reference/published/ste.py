"""The straight-through estimator: the network uses the largest weights, and their gradients move all of them."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, count_of, largest, record

ABOUT = {
    "method": "straight_through",
    "test": "test_reparam_traces",
    "paper": "Bengio et al., 2013",
    "repository": "google-research/jaxpruner",
    "commit": "f133ee5",
    "settings": {"density": 0.4},
    "deviations": [],
}


def run(density: float) -> list[dict]:
    problem, steps = Problem(density), []
    latent = Descent(problem.weights)
    for t in range(STEPS):
        mask = {name: largest(np.abs(w), count_of(density, w)) for name, w in latent.values.items()}
        used = {name: w * mask[name] for name, w in latent.values.items()}
        latent.step(problem.slope(t, used))
        steps.append(record(mask, realised=used, weights=latent.values, momentum=latent.momentum))
    return steps
