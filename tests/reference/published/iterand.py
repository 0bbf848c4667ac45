"""IteRand: before some steps a part of the pruned weights is drawn anew."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record

ABOUT = {
    "test": "test_reparam_traces",
    "paper": "Chijiwa et al., 2021",
    "repository": "dchiji-ntt/iterand",
    "commit": "90e0862",
    "settings": {"density": 0.5, "every": 3, "fraction": 0.3},
    "deviations": [
        "Scores count by their absolute value, where the authors' count as they are; here all are positive.",
        "The number of kept weights is rounded, where the authors round the rank of the threshold.",
        "The random numbers and the fresh weights are given.",
    ],
}


def run(density: float, every: int, fraction: float) -> list[dict]:
    problem, steps = Problem(density), []
    scores, weights = Descent(positive_scores(problem)), dict(problem.weights)
    for t in range(STEPS):
        mask = {name: _above_percentile(s, 1 - density) for name, s in scores.values.items()}
        if (t + 1) % every == 0:
            for name, w in weights.items():
                born = problem.numbers[t][name] < fraction
                weights[name] = w * mask[name] + ~mask[name] * np.where(born, redraw(problem, t)[name], w)
        used = {name: w * mask[name] for name, w in weights.items()}
        slope = problem.slope(t, used)
        scores.step({name: slope[name] * w for name, w in weights.items()})
        assert all((s > 0).all() for s in scores.values.values())
        steps.append(record(mask, realised=used, weights=weights, learned=scores.values, momentum=scores.momentum))
    return steps


def positive_scores(problem: Problem) -> dict:
    return {name: 30 + numbers for name, numbers in problem.numbers[0].items()}


def redraw(problem: Problem, step: int) -> dict:
    """Return the weights that are drawn at a step: the gradients of the next one stand for them."""
    return problem.gradients[(step + 1) % STEPS]


def _above_percentile(score: np.ndarray, part: float) -> np.ndarray:
    return score >= np.sort(score.ravel())[round(part * (score.size - 1))]
