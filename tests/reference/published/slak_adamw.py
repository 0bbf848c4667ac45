"""SLaK's sparse training by AdamW, its optimizer."""

import numpy as np

from tests.reference.problem import RATE
from tests.reference.published import slak

ABOUT = {
    **slak.ABOUT,
    "settings": {**slak.ABOUT["settings"], "optimizer": "adamw"},
    "deviations": [
        *slak.ABOUT["deviations"],
        "The moments of dead weights are zero, as the authors have it for SGD's momentum; their AdamW gathers moments"
        " of dense gradients, with which weights are born.",
    ],
}
B1, B2, EPSILON, DECAY = 0.9, 0.99, 1e-8, 0.05  # 1 − 0.999^t would lose digits in float32


class AdamW(slak.SGD):
    def __init__(self, weights: dict) -> None:
        super().__init__(weights)
        self.state["second"] = {name: np.zeros_like(w) for name, w in weights.items()}
        self.count = 0

    def step(self, gradients: dict, resting: dict) -> None:
        self.count += 1
        for name, g in gradients.items():
            first = B1 * self.state["momentum"][name] + (1 - B1) * g
            second = B2 * self.state["second"][name] + (1 - B2) * g * g
            denominator = np.sqrt(second) / np.sqrt(1 - B2**self.count) + EPSILON
            w = self.weights[name] * (1 - RATE * DECAY) - RATE / (1 - B1**self.count) * first / denominator
            for tree, new in ((self.state["momentum"], first), (self.state["second"], second), (self.weights, w)):
                tree[name] = np.where(resting[name], 0, new)


def run(**settings) -> list[dict]:
    return slak.run(**settings, make=AdamW)
