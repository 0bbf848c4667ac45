"""Edge-popup: scores choose among weights that stay as they were drawn."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record

ABOUT = {
    "test": "test_reparam_traces",
    "paper": "Ramanujan et al., 2020",
    "repository": "allenai/hidden-networks",
    "commit": "dddf2d0",
    "settings": {"density": 0.25, "weight_decay": 0.01},
    "deviations": ["The number of kept weights is rounded, where the authors truncate that of the others."],
}


def run(density: float, weight_decay: float) -> list[dict]:
    problem, steps = Problem(density), []
    scores = Descent(first_scores(problem), decay=weight_decay)
    for t in range(STEPS):
        mask = {name: keep_highest(s, density) for name, s in scores.values.items()}
        used = {name: w * mask[name] for name, w in problem.weights.items()}
        scores.step(pull(problem, t, used, scores.values))
        steps.append(record(mask, realised=used, learned=scores.values, momentum=scores.momentum))
    return steps


def first_scores(problem: Problem) -> dict:
    return {name: numbers - 0.5 for name, numbers in problem.numbers[0].items()}


def keep_highest(score: np.ndarray, density: float) -> np.ndarray:
    """Return the mask without the int((1 − density) n) scores closest to zero."""
    mask = np.ones(score.size, bool)
    mask[np.argsort(np.abs(score).ravel())[: int((1 - density) * score.size)]] = False
    return mask.reshape(score.shape)


def pull(problem: Problem, step: int, used: dict, scores: dict) -> dict:
    """Return the gradients of the scores: straight through the mask, and through the absolute value."""
    slope = problem.slope(step, used)
    return {name: slope[name] * w * np.sign(scores[name]) for name, w in problem.weights.items()}
