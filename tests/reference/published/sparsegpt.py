"""SparseGPT: layer by layer, prune inputs in their order and let later ones of the same output make up for it."""

import numpy as np

from tests.reference.network import Network, record
from tests.reference.problem import largest

ABOUT = {
    "paper": "Frantar & Alistarh, 2023",
    "repository": "IST-DASLab/sparsegpt",
    "commit": "147d215",
    "settings": {"density": 0.4, "block": 3},
    "deviations": [
        "Each block keeps the rounded count of weights, where the authors' threshold is one that is pruned, too.",
        "Inputs come from the layers before as they are pruned, layer by layer, where the authors' default goes block"
        " by block of a transformer.",
    ],
}


def rounds(density: float, block: int) -> list[dict]:
    return prune(lambda current, diagonal, start: _block(current, diagonal, start, density, block))


def prune(choose) -> list[dict]:
    """Prune all layers; choose(inputs still to come, their diagonal of U, start) -> masks of inputs from here on."""
    network = Network()
    weights, masks = dict(network.weights), {}
    for place, name in list(enumerate(weights))[1:]:  # the first layer stays dense
        hessian = np.zeros((len(weights[name]),) * 2)
        for x, _ in network.batches:
            a = network.inputs(weights, x)[place]
            hessian += 2 * a.T @ a
        weights[name], masks[name] = _prune_layer(weights[name].T, hessian, choose)
    return [{**record(0, masks), "weights": weights}]


def _prune_layer(matrix: np.ndarray, hessian: np.ndarray, choose) -> tuple[np.ndarray, np.ndarray]:
    """Prune (outputs, inputs), as the authors lay it out; return the transposes of the new weights and the mask."""
    assert (np.diag(hessian) > 0).all(), "no input is always 0 in this trace"
    hessian = hessian + 0.01 * np.diag(hessian).mean() * np.eye(len(hessian))
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    matrix, mask = matrix.copy(), np.ones(matrix.shape, bool)
    for i in range(matrix.shape[1]):
        chosen = choose(matrix[:, i:], np.diag(upper)[i:], i)
        if chosen is not None:
            mask[:, i : i + chosen.shape[1]] = chosen
        error = np.where(mask[:, i], 0, matrix[:, i]) / upper[i, i]
        matrix[:, i:] -= error[:, None] * upper[i, i:][None]
        matrix[:, i] *= mask[:, i]
    return matrix.T, mask.T


def _block(current: np.ndarray, diagonal: np.ndarray, start: int, density: float, size: int) -> np.ndarray | None:
    if start % size:
        return None
    scores = (current / diagonal)[:, :size] ** 2
    return largest(scores, round(density * scores.size))
