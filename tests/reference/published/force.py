"""FORCE: in rounds, keep the weights whose saliency is largest at the sparse network; pruned ones may come back."""

import numpy as np

from tests.reference.network import SIZE, Network, full, keep, record

ROUNDS = 60
ABOUT = {
    "paper": "de Jorge et al., 2021",
    "repository": "naver/force",
    "commit": "7494eed",
    "settings": {"density": 0.21},
    "deviations": [
        "Counts are rounded, where the authors truncate them.",
        "Each round reads the next batch, and the first again after the last, where the authors draw one at random.",
    ],
}


def rounds(density: float) -> list[dict]:
    network, mask, seen = Network(), full(), []
    for i in range(ROUNDS):
        saliency = saliency_of(network, mask, i, network.weights)
        mask = keep(saliency, count(density, i))
        seen.append(record(i, mask, saliency))
    return seen


def saliency_of(network: Network, mask: dict, index: int, weights: dict) -> dict:
    """Return |weight · gradient|, with the gradient of the masked network for the batch of a round."""
    masked = {name: w * mask[name] for name, w in network.weights.items()}
    gradient = network.gradient(masked, network.batches[index % len(network.batches)])
    return {name: np.abs(w * gradient[name]) for name, w in weights.items()}


def count(density: float, index: int) -> int:
    """Return the number of weights that a round keeps: the densities fall exponentially."""
    return round(float(np.exp((index + 1) * np.log(density) / ROUNDS)) * SIZE)
