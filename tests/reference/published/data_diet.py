"""Data Diet: examples scored by the error of their probabilities, the norm of their gradient, and their margin."""

import numpy as np

from tests.reference.network import CLASSES, Network

ABOUT = {
    "paper": "Paul et al., 2021",
    "repository": "mansheej/data_diet",
    "commit": "aee462e",
    "settings": {"size": 20},
    "deviations": [],
}


def rounds(size: int) -> list[dict]:
    network = Network()
    x, labels = (np.concatenate(part) for part in zip(*network.batches, strict=True))
    logits = network.inputs(network.weights, x)[-1]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    own = np.eye(CLASSES, dtype=bool)[labels]
    error = np.linalg.norm(p - own, axis=1)
    margin = np.array([row[~mine].max() - row[mine][0] for row, mine in zip(p, own, strict=True)])
    gradient = np.array([_norm(network, x[i : i + 1], labels[i : i + 1]) for i in range(len(x))])
    kept = np.zeros(len(x), bool)
    kept[np.argsort(error)[-size:]] = True
    measured = {"el2n": error, "grand": gradient, "margin": margin, "kept": kept}
    return [{name: {"of all": values} for name, values in measured.items()}]


def _norm(network: Network, x: np.ndarray, label: np.ndarray) -> float:
    """Return the norm of the gradient of one example's loss by all kernels and biases."""
    seen, errors = network.backward(network.weights, (x, label))
    parts = [(a.T @ e, e.sum(0)) for a, e in zip(seen, errors, strict=False)]
    return float(np.sqrt(sum((kernel**2).sum() + (bias**2).sum() for kernel, bias in parts)))
