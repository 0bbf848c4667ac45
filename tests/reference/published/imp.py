"""Iterative magnitude pruning: train, prune the smallest survivors of all leaves together, rewind to the start."""

import numpy as np

from tests.reference.network import SIZE, Network, full, keep, record
from tests.reference.problem import MOMENTUM

STEPS, DROP = 10, 6  # of a training, and the step at which its learning rate falls
ABOUT = {
    "paper": "Frankle & Carbin, 2019",
    "repository": "facebookresearch/open_lth",
    "commit": "2ce732f",
    "settings": {"levels": 6, "rewind": 0, "policy": "weights"},
    "deviations": [
        "Levels keep the rounded counts of all weights, where the authors round up those that a level prunes, and their"
        " threshold is one that is pruned, too.",
    ],
}


def rounds(levels: int, rewind: int, policy: str) -> list[dict]:
    """Search with weights rewound to a step, or kept: with the learning rate of that step, or the last one."""
    network, mask, seen = Network(), full(), []
    start = first = train(network, network.weights, mask, 0, rewind)
    for level in range(levels):
        start = {name: w * mask[name] for name, w in start.items()}
        trained = train(network, start, mask, STEPS if level and policy == "fine_tune" else rewind, STEPS - rewind)
        seen.append({**record(0, mask), "start": start, "trained": trained})
        mask = keep({name: np.abs(w) for name, w in trained.items()}, round(0.8 ** (level + 1) * SIZE), mask)
        start = first if policy == "weights" else trained
    return seen


def train(network: Network, weights: dict, mask: dict, step: int, steps: int) -> dict:
    """Return the weights after steps of SGD with fresh momentum under a mask, from a step of its schedule on."""
    momentum = {name: np.zeros(w.shape) for name, w in weights.items()}
    for t in range(step, step + steps):
        gradient = network.gradient(weights, network.batches[t % len(network.batches)])
        momentum = {name: MOMENTUM * m + gradient[name] * mask[name] for name, m in momentum.items()}
        weights = {name: w - (0.2 if t < DROP else 0.02) * momentum[name] for name, w in weights.items()}
    return weights
