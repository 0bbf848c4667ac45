"""SNIP: in one round, keep the weights whose removal would change the loss most, by its gradient."""

import numpy as np

from tests.reference.network import SIZE, Network, keep, record

ABOUT = {
    "paper": "Lee et al., 2019",
    "repository": "namhoonlee/snip-public",
    "commit": "f028496",
    "settings": {"density": 0.21},
    "deviations": [
        "Only kernels are pruned and counted, where the authors prune biases too, whose score is 0 while they are 0.",
        "The scored weights are trained, where the authors train another draw of them under the mask.",
    ],
}


def rounds(density: float) -> list[dict]:
    network = Network()
    joint = tuple(np.concatenate(part) for part in zip(*network.batches, strict=True))
    gradient = network.gradient(network.weights, joint)
    scores = {name: np.abs(w * gradient[name]) for name, w in network.weights.items()}
    return [record(0, keep(scores, round(density * SIZE)), scores)]
