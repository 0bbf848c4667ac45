"""Continuous sparsification: sigmoids that steepen within a round, and rounds between which gates are cut."""

import numpy as np

from tests.reference.problem import MOMENTUM, RATE, STEPS, Problem, record
from tests.reference.published.hard_concrete import sigmoid

ABOUT = {
    "test": "test_reparam_traces",
    "paper": "Savarese et al., 2020",
    "repository": "lolemacs/continuous-sparsification",
    "commit": "5bd4039",
    "settings": {"stop": 8, "temperature": 20.0, "initial": 0.05, "strength": 0.02, "decay": 0.1, "cut_at": 1.0},
    "deviations": [
        "Gates are not divided by the first one.",
        "The temperature rises by step, where the authors' rises by epoch.",
        "A round ends before the step at which gates are hard; the authors' last epoch has the final temperature.",
        "The cut is at temperature 1 as in the authors' code; by default it is at the last temperature.",
    ],
}


def run(stop: int, temperature: float, initial: float, strength: float, decay: float, cut_at: float) -> list[dict]:
    problem, steps = Problem(0.5), []
    weights = dict(problem.weights)
    gates = {name: np.full_like(w, initial) for name, w in weights.items()}
    buffers = [{name: np.zeros_like(w) for name, w in weights.items()} for _ in range(2)]
    for t in range(STEPS):
        if t > 0 and t % stop == 0:
            gates = {name: np.minimum(cut_at * s, initial) for name, s in gates.items()}
        steepness = temperature ** (t % stop / stop)
        soft = {name: sigmoid(steepness * s) for name, s in gates.items()}
        mask = {name: s > 0 for name, s in gates.items()}
        used = {name: w * soft[name] for name, w in weights.items()}
        slope = problem.slope(t, used)
        for name, g in soft.items():
            through = steepness * g * (1 - g) * (slope[name] * weights[name] + strength)
            weights[name] = _nesterov(weights[name], slope[name] * g + decay * weights[name], buffers[0], name)
            gates[name] = _nesterov(gates[name], through, buffers[1], name)
        steps.append(record(mask, realised=used, weights=weights, learned=gates))
    return steps


def _nesterov(value: np.ndarray, gradient: np.ndarray, buffer: dict, name: str) -> np.ndarray:
    buffer[name] = MOMENTUM * buffer[name] + gradient
    return value - RATE * (gradient + MOMENTUM * buffer[name])
