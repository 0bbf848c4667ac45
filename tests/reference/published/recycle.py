"""Weight recycling: now and then the lowest-scored weights of edge-popup take the values of the highest-scored."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record
from tests.reference.published.edge_popup import first_scores, keep_highest, pull

ABOUT = {
    "test": "test_reparam_traces",
    "paper": "Gorbett & Whitley, 2023",
    "repository": "mattgorb/parameter_tiling_and_recycling",
    "commit": "c55e976",
    "settings": {"density": 0.5, "fraction": 0.2, "epoch": 2, "every": 3},
    "deviations": ["Epochs of two steps stand for those of the authors."],
}


def run(density: float, fraction: float, epoch: int, every: int) -> list[dict]:
    problem, steps = Problem(density), []
    scores, weights = Descent(first_scores(problem)), dict(problem.weights)
    for t in range(STEPS):
        problem.weights = weights
        mask = {name: keep_highest(s, density) for name, s in scores.values.items()}
        used = {name: w * mask[name] for name, w in weights.items()}
        scores.step(pull(problem, t, used, scores.values))
        passed, rest = divmod(t + 1, epoch)
        if rest == 0 and is_due(passed - 1, every, STEPS // epoch):
            weights = {name: _recycle(w, scores.values[name], fraction) for name, w in weights.items()}
        steps.append(record(mask, realised=used, weights=weights, learned=scores.values, momentum=scores.momentum))
    return steps


def is_due(epoch: int, every: int, epochs: int) -> bool:
    """Whether to recycle after an epoch, counted from 0."""
    return epoch % every == 0 and epoch > 0 and epoch != epochs - 1


def _recycle(w: np.ndarray, score: np.ndarray, fraction: float) -> np.ndarray:
    count, order = int(fraction * score.size), np.argsort(np.abs(score).ravel())
    flat = w.ravel().copy()
    flat[order[:count]] = flat[order[-count:]]
    return flat.reshape(w.shape)
