"""GraNet: prune the whole tree to a cubic schedule, then exchange weights in each leaf by the gradient."""

import math

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, cosine, exchange, largest_in_tree

ABOUT = {
    "paper": "Liu et al., 2021",
    "repository": "VITA-Group/GraNet",
    "commit": "f338a24",
    "settings": {"density": 0.15, "initial": 0.5, "steps": STEPS, "every": 4, "stop": 16, "drop_fraction": 0.5},
    "deviations": [
        "A refresh comes before the update of the next step, where the authors refresh after the update.",
        "Each pruning keeps the rounded count exactly, where the authors truncate it and keep one weight less.",
        "The last pruning takes place, which the authors leave out.",
    ],
}


def run(density: float, initial: float, steps: int, every: int, stop: int, drop_fraction: float) -> list[dict]:
    problem = Problem(initial)
    training = Run(problem.weights, problem.mask)
    for t in range(STEPS):
        stayed = training.mask
        if t > 0 and t % every == 0:
            pruned = training.mask
            if t <= stop:
                sparsity = (1 - initial) + (initial - density) * (1 - (1 - t / stop) ** 3)
                pruned = _prune_tree(training, 1 - sparsity)
            stayed = regrow(training, pruned, problem.gradients[t], cosine(drop_fraction, 0.005, t, steps))
        training.step(problem.gradients[t], stayed)
    return training.steps


def regrow(training: Run, pruned: dict, gradients: dict, fraction: float) -> dict:
    """Zero what was pruned, exchange a part of the rest, and return the weights that stayed through both."""
    training.refresh(pruned)
    return training.refresh(
        {
            name: exchange(
                training.weights[name], m, np.abs(gradients[name]), max(1, math.ceil(fraction * int(m.sum())))
            )
            for name, m in pruned.items()
        }
    )


def _prune_tree(training: Run, density: float) -> dict:
    sizes = {name: np.abs(w) for name, w in training.weights.items()}
    total = sum(m.size for m in training.mask.values())
    return largest_in_tree(sizes, math.floor(density * total + 0.5), training.mask)
