"""L0 regularisation: random gates for the inputs of each layer, exact zeros and ones among them."""

import math

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record

ABOUT = {
    "test": "test_reparam_traces",
    "paper": "Louizos et al., 2018",
    "repository": "AMLab-Amsterdam/L0_regularization",
    "commit": "39a5fe6",
    "settings": {"stop": 20, "drop_rate": 0.3, "closing": 0.05, "decay": 0.1},
    "deviations": [
        "All gates start at the same value, without the authors' noise of 0.01.",
        "From `stop` on the gates are those of the authors' tests.",
        "The random numbers are given.",
    ],
}
LOW, HIGH, BETA, BOUND = -0.1, 1.1, 2 / 3, math.log(100)


def run(stop: int, drop_rate: float, closing: float, decay: float) -> list[dict]:
    problem, steps = Problem(0.5), []
    weights = Descent(problem.weights)
    start = math.log(1 - drop_rate) - math.log(drop_rate)
    gates = Descent({name: np.full((len(w), 1), start) for name, w in problem.weights.items()})
    for t in range(STEPS):
        noise = {name: numbers[:, :1] for name, numbers in problem.numbers[t].items()}
        pull_gates, pull_weights, used, mask = {}, {}, {}, {}
        for name, s in gates.values.items():
            w = weights.values[name]
            logit, scale = (s, 1) if t >= stop else (np.log(noise[name]) - np.log(1 - noise[name]) + s, BETA)
            stretched = sigmoid(logit / scale) * (HIGH - LOW) + LOW
            gate, inside = np.clip(stretched, 0, 1), (stretched > 0) & (stretched < 1)
            used[name] = gate * w
            mask[name] = np.broadcast_to(sigmoid(s) * (HIGH - LOW) + LOW > 0, w.shape)
            slope = problem.slope(t, used)[name]
            inner = sigmoid(logit / scale)
            through = inside * (HIGH - LOW) * inner * (1 - inner) / scale
            # The expected penalty: closing + decay w² / 2 for each weight, times the chance that its gate is open.
            chance = 1 - sigmoid(BETA * (math.log(-LOW / (HIGH - LOW)) - math.log(HIGH / (HIGH - LOW))) - s)
            penalty = np.sum(closing + decay * w * w / 2, axis=1, keepdims=True)
            pull_gates[name] = np.sum(slope * w, axis=1, keepdims=True) * through + penalty * chance * (1 - chance)
            pull_weights[name] = slope * gate + decay * chance * w
        weights.step(pull_weights)
        gates.step(pull_gates)
        gates.values = {name: np.clip(s, -BOUND, BOUND) for name, s in gates.values.items()}
        steps.append(record(mask, realised=used, weights=weights.values, learned=gates.values))
    return steps


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
