"""Taylor pruning: units whose gate, on all of their weights, has the largest squared gradients stay."""

import numpy as np

from tests.reference.network import SHAPES, Network, keep, record

ABOUT = {
    "paper": "Molchanov et al., 2019",
    "repository": "NVlabs/Taylor_pruning",
    "commit": "4b70120",
    "settings": {"density": 0.5},
    "deviations": [
        "The gate is on the weights, as in the paper's formula, where the code has it after a batch norm.",
    ],
}


def rounds(density: float) -> list[dict]:
    network = Network()
    scores = {name: np.zeros(shape[1]) for name, shape in SHAPES.items()}
    for batch in network.batches:
        gradient = network.gradient(network.weights, batch)
        for name, w in network.weights.items():
            scores[name] += (w * gradient[name]).sum(0) ** 2 / len(network.batches)
    return [record(0, keep(scores, round(density * sum(s.size for s in scores.values()))), scores)]
