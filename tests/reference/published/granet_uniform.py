"""GraNet_uniform: as GraNet, but each leaf is pruned to the same density, and the last one stays at 0.2."""

import re

import numpy as np

from tests.reference.problem import SHAPES, STEPS, Problem, Run, cosine, count_of, largest
from tests.reference.published.granet import regrow

ABOUT = {
    "paper": "Liu et al., 2021",
    "repository": "VITA-Group/GraNet",
    "commit": "f338a24",
    "settings": {
        "density": 0.15,
        "initial": 0.5,
        "steps": STEPS,
        "every": 4,
        "stop": 16,
        "drop_fraction": 0.5,
        "last": "^last/",
    },
    "deviations": [
        "A refresh comes before the update of the next step, where the authors refresh after the update.",
        "Each pruning rounds its counts, where the authors truncate them.",
    ],
}


def run(
    density: float, initial: float, steps: int, every: int, stop: int, drop_fraction: float, last: str
) -> list[dict]:
    problem, held = Problem(initial), next(name for name in SHAPES if re.search(last, name))
    training = Run(problem.weights, problem.mask)
    for t in range(STEPS):
        stayed = training.mask
        if t > 0 and t % every == 0:
            pruned = training.mask
            if t <= stop:
                sparsity = (1 - initial) + (initial - density) * (1 - (1 - t / stop) ** 3)
                pruned = _prune_leaves(training, 1 - sparsity, held)
            stayed = regrow(training, pruned, problem.gradients[t], cosine(drop_fraction, 0.005, t, steps))
        training.step(problem.gradients[t], stayed)
    return training.steps


def _prune_leaves(training: Run, density: float, held: str) -> dict:
    densities = dict.fromkeys(training.mask, density)
    if 1 - density >= 0.8:
        sizes = {name: m.size for name, m in training.mask.items()}
        total = sum(sizes.values())
        densities = dict.fromkeys(sizes, (total * density - 0.2 * sizes[held]) / (total - sizes[held]))
        densities[held] = 0.2
    return {
        name: largest(np.abs(training.weights[name]), count_of(densities[name], m), m)
        for name, m in training.mask.items()
    }
