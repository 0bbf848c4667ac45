"""Wanda: the weights of each output compete by their size times the norm of their input."""

import numpy as np

from tests.reference.network import Network, record
from tests.reference.problem import largest

ABOUT = {
    "paper": "Sun et al., 2024",
    "repository": "locuslab/wanda",
    "commit": "8e8fc87",
    "settings": {"density": 0.45},
    "deviations": [
        "All layers are scored by their inputs in the dense network, as in the authors' code for image classifiers;"
        " that for language models shows later blocks the outputs of pruned ones.",
        "Counts are rounded, where the authors truncate those of the pruned weights.",
    ],
}


def rounds(density: float) -> list[dict]:
    network = Network()
    norms = dict.fromkeys(network.weights, 0.0)
    for number, (x, _) in enumerate(network.batches):
        for name, a in zip(norms, network.inputs(network.weights, x), strict=False):
            norms[name] = norms[name] * number / (number + 1) + (a**2).sum(0) / (number + 1)
    scores = {name: np.abs(w) * np.sqrt(norms[name])[:, None] for name, w in network.weights.items()}
    mask = {
        name: np.stack([largest(column, round(density * len(column))) for column in s.T], axis=1)
        for name, s in scores.items()
    }
    return [record(0, mask, scores)]
