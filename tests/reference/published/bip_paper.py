"""BiP by the formula of its paper: scores beside the weights follow the implicit gradient."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record
from tests.reference.published.bip_code import best_of_tree

ABOUT = {
    "method": "bip",
    "test": "test_reparam_traces",
    "paper": "Zhang et al., 2022",
    "repository": None,
    "commit": None,
    "settings": {"density": 0.375, "implicit_rate": 0.1, "rule": "paper"},
    "deviations": ["Scores end at zero.", "Both learning rates are constant."],
}


def run(density: float, implicit_rate: float, rule: str) -> list[dict]:
    problem, steps = Problem(density), []
    lower = Descent(problem.weights)
    upper = Descent({name: np.abs(w) for name, w in problem.weights.items()})
    for t in range(STEPS):
        mask = best_of_tree(upper.values, density)
        used = {name: w * mask[name] for name, w in lower.values.items()}
        slope = problem.slope(t, used)
        if t % 2 == 0:
            lower.step({name: g * mask[name] for name, g in slope.items()})
        else:
            response = {name: w - implicit_rate * mask[name] * slope[name] for name, w in lower.values.items()}
            upper.step({name: response[name] * g for name, g in slope.items()})
            upper.values = {name: np.maximum(s, 0) for name, s in upper.values.items()}
        steps.append(record(mask, realised=used, weights=lower.values, learned=upper.values))
    return steps
