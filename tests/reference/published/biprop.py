"""Biprop: edge-popup whose kept weights are binary, with one magnitude in each leaf."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record
from tests.reference.published.edge_popup import first_scores, keep_highest, pull

ABOUT = {
    "test": "test_reparam_traces",
    "paper": "Diffenderfer & Kailkhura, 2021",
    "repository": "chrundle/biprop",
    "commit": "f709fc5",
    "settings": {"density": 0.25, "weight_decay": 0.01},
    "deviations": [
        "The number of kept weights is rounded, where the authors truncate that of the others.",
        "The magnitude is the mean over the kept weights, where the authors divide by their truncated number.",
    ],
}


def run(density: float, weight_decay: float) -> list[dict]:
    problem = Problem(density)
    return train(problem, weight_decay, lambda t, s: {name: keep_highest(x, density) for name, x in s.items()})


def train(problem: Problem, weight_decay: float, choose) -> list[dict]:
    """Train the scores under the masks choose(step, scores)."""
    scores, steps = Descent(first_scores(problem), decay=weight_decay), []
    for t in range(STEPS):
        mask = choose(t, scores.values)
        used = {name: np.sign(w) * mask[name] * _magnitude(w, mask[name]) for name, w in problem.weights.items()}
        scores.step(pull(problem, t, used, scores.values))
        steps.append(record(mask, realised=used, learned=scores.values, momentum=scores.momentum))
    return steps


def _magnitude(w: np.ndarray, mask: np.ndarray) -> float:
    return np.sum(np.abs(w) * mask) / mask.sum()
