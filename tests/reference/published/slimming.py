"""Network slimming: the subgradient of an l1 penalty joins the gradients of the scales."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record

ABOUT = {
    "method": "add_l1",
    "test": "test_transform_traces",
    "paper": "Liu et al., 2017",
    "repository": "Eric-mingjie/network-slimming",
    "commit": "b395dc0",
    "settings": {"strength": 0.5, "decay": 0.1},
    "deviations": [],
}
SHAPES = {"first/scale": (8,), "last/scale": (4,), "last/kernel": (4, 3)}


def run(strength: float, decay: float) -> list[dict]:
    problem, steps = Problem(0.5, SHAPES), []
    weights = Descent(problem.weights, decay=decay)
    penalised = {name: np.full(shape, name.endswith("scale")) for name, shape in SHAPES.items()}
    for t in range(STEPS):
        slope = problem.slope(t, weights.values)
        for name, w in weights.values.items():
            slope[name] = slope[name] + strength * np.sign(w) * penalised[name]
        weights.step(slope)
        steps.append(record(penalised, weights=weights.values, momentum=weights.momentum))
    return steps
