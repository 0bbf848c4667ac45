"""RigL under Adam: newborn weights start with moments of zero, and the count of its bias correction runs on."""

import numpy as np

from tests.reference.problem import RATE, Problem, Run
from tests.reference.published import rigl

ABOUT = {
    **rigl.ABOUT,
    "method": "rigl",
    "settings": {"density": 0.4, "every": 4, "stop": 20, "drop_fraction": 0.3, "optimizer": "adam"},
    "deviations": [
        *rigl.ABOUT["deviations"],
        "Adam's ε joins the corrected second moment; TensorFlow's the other one.",
    ],
}
B1, B2, EPSILON = 0.9, 0.99, 1e-8  # 1 − 0.999^t would lose digits in float32


class AdamRun(Run):
    """A training by Adam under a mask."""

    def __init__(self, weights: dict, mask: dict) -> None:
        super().__init__(weights, mask)
        self.second = {name: np.zeros_like(w) for name, w in weights.items()}

    def die(self, mask: dict) -> None:
        super().die(mask)
        self.second = {name: v * mask[name] for name, v in self.second.items()}

    def step(self, gradients: dict, trained: dict) -> None:
        t = len(self.steps) + 1
        for name, m in trained.items():
            g = gradients[name] * m
            self.momentum[name] = B1 * self.momentum[name] + (1 - B1) * g
            self.second[name] = B2 * self.second[name] + (1 - B2) * g * g
            first, second = self.momentum[name] / (1 - B1**t), self.second[name] / (1 - B2**t)
            self.weights[name] = self.weights[name] - RATE * m * first / (np.sqrt(second) + EPSILON)
        self.record()
        self.steps[-1]["second"] = dict(self.second)


def run(density: float, optimizer: str, **timing) -> list[dict]:
    problem = Problem(density)
    return rigl.train(problem, AdamRun(problem.weights, problem.mask), **timing)
