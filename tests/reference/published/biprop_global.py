"""Biprop's global variant: one threshold for the whole tree, and a density that falls from a half."""

import numpy as np

from tests.reference.problem import Problem
from tests.reference.published import biprop

ABOUT = {
    **biprop.ABOUT,
    "method": "biprop",
    "settings": {"density": 0.25, "weight_decay": 0.01, "ramp": 8},
    "deviations": [*biprop.ABOUT["deviations"][:1], "The density falls by step, where the authors' falls by epoch."],
}


def run(density: float, weight_decay: float, ramp: int) -> list[dict]:
    def choose(t: int, scores: dict) -> dict:
        kept = density if t >= ramp else density + (0.5 - density) * (1 - t / ramp) ** 3
        flat = np.sort(np.concatenate([np.abs(s).ravel() for s in scores.values()]))
        threshold = flat[flat.size - round(kept * flat.size) - 1]
        return {name: np.abs(s) > threshold for name, s in scores.items()}

    return biprop.train(Problem(density), weight_decay, choose)
