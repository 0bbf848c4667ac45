"""ITOP that grows where no weight was before, while there are such places."""

import math

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, cosine, exchange
from tests.reference.published import itop

ABOUT = {
    **itop.ABOUT,
    "method": "itop",
    "settings": {"density": 0.4, "steps": STEPS, "every": 3, "drop_fraction": 0.6, "grow": "unfired"},
}


def run(density: float, steps: int, every: int, drop_fraction: float, grow: str) -> list[dict]:
    problem = Problem(density)
    training = Run(problem.weights, problem.mask)
    fired = {name: m.copy() for name, m in training.mask.items()}
    for t in range(STEPS):
        stayed = training.mask
        if t > 0 and t % every == 0:
            fraction, new = cosine(drop_fraction, 0.005, t, steps), {}
            for name, m in training.mask.items():
                wish = np.where(fired[name], problem.numbers[t][name], 1 + problem.numbers[t][name])
                new[name] = exchange(training.weights[name], m, wish, max(1, math.ceil(fraction * m.sum())))
            stayed = training.refresh(new)
            fired = {name: fired[name] | m for name, m in new.items()}
        training.step(problem.gradients[t], stayed)
    return training.steps
