"""SynFlow: in rounds without data, keep the weights that carry most of the flow of ones through all sizes |w|."""

import numpy as np

from tests.reference.network import SIZE, Network, full, keep, record

ROUNDS = 100
ABOUT = {
    "paper": "Tanaka et al., 2020",
    "repository": "ganguli-lab/Synaptic-Flow",
    "commit": "9dfa57a",
    "settings": {"density": 0.21},
    "deviations": [
        "Counts are rounded, where the authors truncate the numbers of pruned weights.",
        "Scores are over the sum of outputs, which leaves their order alone.",
    ],
}


def rounds(density: float) -> list[dict]:
    network, mask, seen = Network(), full(), []
    for i in range(ROUNDS):
        scores = _flow(network, {name: np.abs(w) * mask[name] for name, w in network.weights.items()})
        mask = keep(scores, round(density ** ((i + 1) / ROUNDS) * SIZE), mask)
        seen.append(record(i, mask, scores))
    return seen


def _flow(network: Network, positive: dict) -> dict:
    """Return each weight times the derivative of the sum of outputs by it; biases take part by their sizes."""
    flow, kernels = [np.ones((1, 4))], list(positive.values())
    for kernel, bias in zip(kernels, network.biases, strict=True):
        flow.append(flow[-1] @ kernel + np.abs(bias))
    back, scores = np.ones((1, 3)), {}
    for name, kernel, into in reversed(list(zip(positive, kernels, flow, strict=False))):
        scores[name] = kernel * (into.T @ back)
        back = back @ kernel.T
    return {name: scores[name] for name in positive}
