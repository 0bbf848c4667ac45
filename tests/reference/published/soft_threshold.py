"""STR: weights shrink by a threshold of their leaf, which is learned beside them."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record

ABOUT = {
    "test": "test_reparam_traces",
    "paper": "Kusupati et al., 2020",
    "repository": "RAIVNLab/STR",
    "commit": "cc74d38",
    "settings": {"initial": -3.0, "decay": 0.05},
    "deviations": [],
}


def run(initial: float, decay: float) -> list[dict]:
    problem, steps = Problem(0.5), []
    weights = Descent(problem.weights, decay=decay)
    thresholds = Descent({name: np.full((1, 1), initial) for name in problem.weights}, decay=decay)
    for t in range(STEPS):
        height = {name: 1 / (1 + np.exp(-s)) for name, s in thresholds.values.items()}
        rest = {name: np.maximum(np.abs(w) - height[name], 0) for name, w in weights.values.items()}
        mask = {name: r > 0 for name, r in rest.items()}
        used = {name: np.sign(w) * rest[name] for name, w in weights.values.items()}
        slope = problem.slope(t, used)
        fall = {name: -np.sum(slope[name] * mask[name] * np.sign(w)) for name, w in weights.values.items()}
        thresholds.step({name: fall[name] * h * (1 - h) for name, h in height.items()})
        weights.step({name: g * mask[name] for name, g in slope.items()})
        steps.append(record(mask, realised=used, weights=weights.values, learned=thresholds.values))
    return steps
