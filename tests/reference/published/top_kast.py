"""Top-KAST: the forward pass uses the largest weights, and the update moves these and the next largest."""

import numpy as np

from tests.reference.problem import MOMENTUM, RATE, STEPS, Problem, count_of, largest, record

ABOUT = {
    "test": "test_reparam_traces",
    "paper": "Jayakumar et al., 2020",
    "repository": None,
    "commit": None,
    "settings": {"density": 0.25, "backward": 0.5, "weight_decay": 0.1},
    "deviations": ["Momentum rests outside the backward set, as the weights do."],
}


def run(density: float, backward: float, weight_decay: float, every: int = 1) -> list[dict]:
    problem, steps = Problem(density), []
    weights = dict(problem.weights)
    momentum = {name: np.zeros(w.shape) for name, w in weights.items()}
    for t in range(STEPS):
        if t % every == 0:
            used = {name: largest(np.abs(w), count_of(density, w)) for name, w in weights.items()}
            trained = {name: largest(np.abs(w), count_of(backward, w)) for name, w in weights.items()}
        for name, w in weights.items():
            decay = weight_decay * w * np.where(used[name], 1, 1 / density)
            moved = MOMENTUM * momentum[name] + problem.gradients[t][name] + decay
            momentum[name] = np.where(trained[name], moved, momentum[name])
            weights[name] = np.where(trained[name], w - RATE * moved, w)
        steps.append(record(used, weights=weights, momentum=momentum))
    return steps
