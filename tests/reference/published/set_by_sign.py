"""SET by sign: a part of the positive and of the negative weights goes, those closest to zero."""

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, largest

ABOUT = {
    "method": "sparse_evolutionary",
    "paper": "Mocanu et al., 2018",
    "repository": "dcmocanu/sparse-evolutionary-artificial-neural-networks",
    "commit": "62ac974",
    "settings": {"density": 0.4, "every": 4, "stop": 20, "drop_fraction": 0.31, "removal": "sign"},
    "deviations": [
        "A refresh comes before the update of the next step, where the authors refresh after an epoch.",
        "Moments of weights that stay are kept, where the authors' optimizer restarts.",
        "The number of dropped weights is rounded up for both signs; the authors drop one positive weight more where"
        " the fraction of them is whole.",
        "The random numbers by which weights grow are given.",
    ],
}


def run(density: float, every: int, stop: int, drop_fraction: float, removal: str) -> list[dict]:
    problem = Problem(density)
    training = Run(problem.weights, problem.mask)
    for t in range(STEPS):
        stayed = training.mask
        if 0 < t <= stop and t % every == 0:
            core = {name: _core(w, drop_fraction) for name, w in training.weights.items()}
            count = {name: int(m.sum()) for name, m in training.mask.items()}
            training.refresh(core)  # what grows again has lost its value and its momentum
            training.refresh(
                {
                    name: m | largest(problem.numbers[t][name], count[name] - int(m.sum()), ~m)
                    for name, m in core.items()
                }
            )
            stayed = core
        training.step(problem.gradients[t], stayed)
    return training.steps


def _core(w: np.ndarray, part: float) -> np.ndarray:
    values = np.sort(w.ravel())
    negative, positive = int((values < 0).sum()), int((values > 0).sum())
    largest_negative = values[int((1 - part) * negative)]
    smallest_positive = values[int(min(values.size - 1, values.size - positive + part * positive))]
    assert part * positive % 1, "the part is not whole"
    return (w > smallest_positive) | (w < largest_negative)
