"""SR-STE: N of M consecutive inputs, straight-through gradients, and decay of the weights that are left out."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record

SHAPES = {"first/kernel": (8, 5), "last/kernel": (4, 6)}
ABOUT = {
    "test": "test_reparam_traces",
    "paper": "Zhou et al., 2021",
    "repository": "NM-sparsity/NM-sparsity",
    "commit": "3cebd6b",
    "settings": {"density": 0.5, "decay": 0.2},
    "deviations": [],
}
M = 4


def run(density: float, decay: float) -> list[dict]:
    problem, steps = Problem(density, SHAPES), []
    latent = Descent(problem.weights)
    for t in range(STEPS):
        mask = {name: best_of_groups(np.abs(w), round(density * M)) for name, w in latent.values.items()}
        used = {name: w * mask[name] for name, w in latent.values.items()}
        slope = problem.slope(t, used)
        latent.step({name: g + decay * ~mask[name] * latent.values[name] for name, g in slope.items()})
        steps.append(record(mask, realised=used, weights=latent.values, momentum=latent.momentum))
    return steps


def best_of_groups(score: np.ndarray, n: int) -> np.ndarray:
    """Return the mask of the best n of M, in groups along the inputs of each output."""
    by_output = score.T.reshape(-1, M)
    mask = np.ones(by_output.shape, bool)
    np.put_along_axis(mask, np.argsort(by_output, axis=1)[:, : M - n], False, axis=1)
    return mask.reshape(score.T.shape).T
