"""Signed supermasks: a ternary mask of weights that stay, trained by SGD with a decay that is not times the rate."""

import numpy as np

from tests.reference.problem import MOMENTUM, STEPS, Problem, record
from tests.reference.published.edge_popup import first_scores

ABOUT = {
    "test": "test_reparam_traces",
    "paper": "Koster et al., 2022",
    "repository": "kosnil/signed_supermasks",
    "commit": "57fcb0c",
    "settings": {"threshold": 0.4, "learning_rate": 0.02, "weight_decay": 0.05, "half_life": 8},
    "deviations": ["The rates fall by step; the authors' fall by a tenth in ten epochs."],
}


def run(threshold: float, learning_rate: float, weight_decay: float, half_life: int) -> list[dict]:
    problem, steps = Problem(0.5), []
    scores = first_scores(problem)
    velocity = {name: np.zeros_like(s) for name, s in scores.items()}
    bounds = {name: threshold * np.abs(s).max() for name, s in scores.items()}
    for t in range(STEPS):
        signs = {name: np.sign(np.where(np.abs(s) > bounds[name], s, 0)) for name, s in scores.items()}
        mask = {name: q != 0 for name, q in signs.items()}
        used = {name: w * signs[name] for name, w in problem.weights.items()}
        slope, fall = problem.slope(t, used), 0.5 ** (t / half_life)
        for name, w in problem.weights.items():
            # As tensorflow/addons@d208d75: the velocity holds the rate, and the decay comes first, on the value itself.
            scores[name] = scores[name] - weight_decay * fall * scores[name]
            velocity[name] = MOMENTUM * velocity[name] - learning_rate * fall * slope[name] * w
            scores[name] = scores[name] + MOMENTUM * velocity[name] - learning_rate * fall * slope[name] * w
        steps.append(record(mask, realised=used, learned=scores, momentum=velocity))
    return steps
