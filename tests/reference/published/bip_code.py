"""BiP as its repository has it: scores and weights are one tensor, which both levels move in turns."""

import numpy as np

from tests.reference.problem import MOMENTUM, RATE, STEPS, Problem, largest_in_tree, record

ABOUT = {
    "method": "bip",
    "test": "test_reparam_traces",
    "paper": "Zhang et al., 2022",
    "repository": "OPTML-Group/BiP",
    "commit": "c51fc35",
    "settings": {"density": 0.375, "implicit_rate": 0.1, "rule": "code"},
    "deviations": [
        "Nothing decays, where the authors' decay acts through both names of the tensor.",
        "Both learning rates are constant, where the authors' fall.",
    ],
}


def run(density: float, implicit_rate: float, rule: str) -> list[dict]:
    problem, steps = Problem(density), []
    theta = dict(problem.weights)
    lower, upper = ({name: np.zeros_like(w) for name, w in theta.items()} for _ in range(2))
    for t in range(STEPS):
        mask = best_of_tree({name: np.abs(w) for name, w in theta.items()}, density)
        used = {name: w * mask[name] for name, w in theta.items()}
        slope = problem.slope(t, used)
        if t % 2 == 0:
            gradients, momentum = {name: g * mask[name] for name, g in slope.items()}, lower
        else:
            # Backwards through the product with the mask, and through the absolute value of the same tensor.
            of_scores = {name: g * theta[name] * np.sign(theta[name]) for name, g in slope.items()}
            gradients, momentum = {name: q - implicit_rate * q * q for name, q in of_scores.items()}, upper
        for name, g in gradients.items():
            momentum[name] = MOMENTUM * momentum[name] + g
            theta[name] = theta[name] - RATE * momentum[name]
        steps.append(record(mask, realised=used, weights=theta, learned=theta))
    return steps


def best_of_tree(scores: dict, density: float) -> dict:
    """Return the mask of the whole tree without its int((1 − density) n) lowest scores."""
    size = sum(s.size for s in scores.values())
    return largest_in_tree(scores, size - int((1 - density) * size))
