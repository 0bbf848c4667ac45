"""Global MP in steps: the largest weights of all leaves together stay, at densities of a cubic descent."""

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, largest_in_tree

ABOUT = {
    "method": "gradual",
    "paper": "Gupta et al., 2022",
    "repository": "manasgupta-1/GlobalMP",
    "commit": "8dd53b7",
    "settings": {"density": 0.14, "scope": "tree", "start": 2, "stop": 18, "every": 4},
    "deviations": [
        "The cut is made in steps, by the schedule of Zhu & Gupta (2017), where the authors' code makes it once.",
        "Counts are rounded, where the authors' threshold is a weight that stays, of a truncated number.",
    ],
}


def run(density: float, scope: str, start: int, stop: int, every: int) -> list[dict]:
    assert scope == "tree"
    return train(density, start, stop, every, cut)


def train(density: float, start: int, stop: int, every: int, prune) -> list[dict]:
    """Train, and prune by (weights, mask, density) -> mask at the steps that are due."""
    problem = Problem(density)
    training = Run(problem.weights, {name: np.ones(w.shape, bool) for name, w in problem.weights.items()})
    for t in range(STEPS):
        if start <= t <= stop and (t - start) % every == 0:
            due = density + (1 - density) * (1 - (t - start) / (stop - start)) ** 3
            training.refresh(prune(training.weights, training.mask, due))
        training.step(problem.gradients[t])
    return training.steps


def cut(weights: dict, mask: dict, density: float) -> dict:
    sizes = {name: np.abs(w) for name, w in weights.items()}
    return largest_in_tree(sizes, round(density * sum(w.size for w in weights.values())), mask)
