"""MaskSparsity: thresholds of the scales' energy choose channels, and only their scales are penalised."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record

ABOUT = {
    "method": "add_l1",
    "test": "test_transform_traces",
    "paper": "Jiang et al., 2021",
    "repository": "CASIA-IVA-Lab/MaskSparsity",
    "commit": "2827de4",
    "settings": {"strength": 0.5, "decay": 0.1, "energy": 0.05},
    "deviations": [],
}
SHAPES = {"first/scale": (8,), "last/scale": (5,), "last/kernel": (4, 3)}


def run(strength: float, decay: float, energy: float) -> list[dict]:
    problem, steps = Problem(0.5, SHAPES), []
    weights = Descent(problem.weights, decay=decay)
    kept = {name: w >= -np.inf for name, w in problem.weights.items()}
    for name, w in problem.weights.items():
        if name.endswith("scale"):
            kept[name] = np.abs(w) > threshold(np.abs(w), energy)
    for t in range(STEPS):
        slope = problem.slope(t, weights.values)
        for name, w in weights.values.items():
            slope[name] = slope[name] + strength * np.sign(w) * ~kept[name]
        weights.step(slope)
        steps.append(record(kept, weights=weights.values, momentum=weights.momentum))
    return steps


def threshold(scales: np.ndarray, energy: float) -> float:
    """Return the middle between the last scale that goes and the first that stays."""
    rising = np.sort(scales)
    lost = 0.0
    for i, scale in enumerate(rising):
        lost += scale**2
        if lost / np.sum(rising**2) > energy:
            return (rising[i - 1] + scale) / 2 if i > 0 else 0.0
    raise AssertionError("the last scale always stays")
