"""PDP: gates by the distance of a weight from the threshold between kept and pruned ones."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, count_of, largest, record

ABOUT = {
    "test": "test_reparam_traces",
    "paper": "Cho et al., 2023",
    "repository": "nroope/PQuant",
    "commit": "58266da",
    "settings": {"density": 0.25, "start": 4, "ramp": 6, "stop": 16, "temperature": 0.3},
    "deviations": [
        "The repository is that of others; the authors have published no code.",
        "The threshold is held constant when differentiating; in the repository it passes gradients to two weights.",
        "Counts are rounded, where the repository truncates.",
        "The hard mask is chosen again at each step, where the repository's is frozen.",
    ],
}


def run(density: float, start: int, ramp: int, stop: int, temperature: float) -> list[dict]:
    problem, steps = Problem(density), []
    latent = Descent(problem.weights)
    for t in range(STEPS):
        reached = min(1.0, max(0, t - start + 1) / ramp)
        mask, gates, slopes = {}, {}, {}
        for name, w in latent.values.items():
            kept = count_of(1 - reached * (1 - density), w)
            mask[name] = largest(np.abs(w), kept)
            if t < start:
                gates[name], slopes[name] = np.ones_like(w), np.ones_like(w)
            elif t < stop:
                falling = -np.sort(-np.abs(w).ravel())
                threshold = (falling[kept - 1] + falling[kept]) / 2
                gates[name] = _share(w**2 / temperature, threshold**2 / temperature)
                slopes[name] = gates[name] + 2 * w**2 / temperature * gates[name] * (1 - gates[name])
            else:
                gates[name] = slopes[name] = mask[name].astype(float)
        used = {name: gates[name] * w for name, w in latent.values.items()}
        slope = problem.slope(t, used)
        latent.step({name: g * slopes[name] for name, g in slope.items()})
        steps.append(record(mask, realised=used, weights=latent.values, momentum=latent.momentum))
    return steps


def _share(a: np.ndarray, b: float) -> np.ndarray:
    top = np.maximum(a, b)
    return np.exp(a - top) / (np.exp(a - top) + np.exp(b - top))
