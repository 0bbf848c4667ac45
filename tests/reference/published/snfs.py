"""SNFS: drop the smallest weights of each leaf, and share their places among the leaves by mean momentum."""

import math

import numpy as np

from tests.reference.problem import MOMENTUM, STEPS, Problem, Run, cosine, largest, whole

ABOUT = {
    "paper": "Dettmers & Zettlemoyer, 2019",
    "repository": "TimDettmers/sparse_learning",
    "commit": "e19ff16",
    "settings": {"density": 0.4, "every": 4, "stop": STEPS, "drop_fraction": 0.5},
    "deviations": [
        "A refresh comes before the update of the next step, where the authors refresh after the update. It sees the"
        " gradient of that step.",
        "Shares become whole numbers by largest remainder, so that the total stays exact; the authors round each up"
        " and correct the total at later refreshes.",
        "The optimizer's momentum is of masked gradients, and zero for newborn weights; the authors' is dense.",
    ],
}


def run(density: float, every: int, stop: int, drop_fraction: float) -> list[dict]:
    problem = Problem(density)
    training = Run(problem.weights, problem.mask)
    dense = {name: np.zeros_like(w) for name, w in problem.weights.items()}
    for t in range(STEPS):
        dense = {name: MOMENTUM * m + problem.gradients[t][name] for name, m in dense.items()}
        stayed = training.mask
        if 0 < t <= stop and t % every == 0:
            new = _redistribute(training, dense, cosine(drop_fraction, 0.005, t, stop))
            stayed = training.refresh(new)
        training.step(problem.gradients[t], stayed)
    return training.steps


def _redistribute(training: Run, dense: dict, fraction: float) -> dict:
    means = {name: np.abs(dense[name])[m].mean() for name, m in training.mask.items()}
    kept = {}
    for name, m in training.mask.items():
        sparsity, share = 1 - m.mean(), means[name] / sum(means.values())
        part = min(sparsity, fraction) if sparsity < 0.2 and share > 1 / len(means) else fraction
        kept[name] = largest(np.abs(training.weights[name]), int(m.sum()) - math.ceil(part * m.sum()), m)
    removed = sum(int(m.sum()) - int(kept[name].sum()) for name, m in training.mask.items())
    wishes = {name: mean / sum(means.values()) * removed for name, mean in means.items()}
    grown = whole(wishes, removed)
    room = {name: int((~k).sum()) for name, k in kept.items()}
    assert all(grown[name] <= 0.99 * room[name] for name in grown), "no leaf fills up in this trace"
    return {name: k | largest(np.abs(dense[name]), grown[name], ~k) for name, k in kept.items()}
