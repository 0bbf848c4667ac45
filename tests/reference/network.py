"""The small classifier whose masks are chosen before training: forward, backward and Hessian by hand, in float64."""

import numpy as np

from tests.reference.problem import largest_in_tree

SHAPES = {"0/kernel": (4, 8), "1/kernel": (8, 8), "2/kernel": (8, 3)}
SIZE = sum(a * b for a, b in SHAPES.values())
CLASSES = 3
EXAMPLES, BATCHES = 16, 7
EVERY = 10  # rounds between two of which the scores are stored


class Network:
    """Two hidden layers of ReLU with biases, and batches of a classification by cross entropy."""

    def __init__(self) -> None:
        generator = np.random.default_rng(8)  # for which no unit dies and no round has a near tie
        self.weights = {name: generator.standard_normal(shape) / np.sqrt(shape[0]) for name, shape in SHAPES.items()}
        self.biases = [0.8 + 0.3 * generator.standard_normal(b) for _, b in SHAPES.values()]  # so that few units die
        self.biases[0][0] = self.biases[1][0] = -0.3
        self.numbers = {name: generator.random(shape) for name, shape in SHAPES.items()}  # in the place of random ones
        self.batches = [
            (generator.standard_normal((EXAMPLES, 4)), generator.integers(CLASSES, size=EXAMPLES))
            for _ in range(BATCHES)
        ]

    def inputs(self, weights: dict, x: np.ndarray) -> list[np.ndarray]:
        """Return the inputs of each layer, and the logits."""
        seen = [x]
        for name, bias in zip(weights, self.biases, strict=True):
            z = seen[-1] @ weights[name] + bias
            seen.append(z if name == list(weights)[-1] else np.maximum(z, 0))
        return seen

    def gradient(self, weights: dict, batch: tuple, temperature: float = 1.0) -> dict:
        """Return the gradient of the mean cross entropy of a batch, with logits divided by the temperature."""
        seen, errors = self.backward(weights, batch, temperature)
        return {name: a.T @ error for name, a, error in zip(weights, seen, errors, strict=False)}

    def backward(self, weights: dict, batch: tuple, temperature: float = 1.0) -> tuple[list, list]:
        """Return the inputs of each layer, and the gradients by each layer's outputs before the ReLU."""
        x, labels = batch
        seen = self.inputs(weights, x)
        errors = [(_softmax(seen[-1] / temperature) - np.eye(CLASSES)[labels]) / (len(x) * temperature)]
        for name, a in reversed(list(zip(weights, seen, strict=False))[1:]):
            errors.insert(0, errors[0] @ weights[name].T * (a > 0))
        return seen, errors

    def hessian_product(self, weights: dict, batch: tuple, along: dict, temperature: float) -> dict:
        """Return the derivative of the gradient along a direction (the R operator of Pearlmutter, 1994)."""
        seen, errors = self.backward(weights, batch, temperature)
        moved = [np.zeros_like(seen[0])]
        for i, name in enumerate(weights):
            dz = moved[-1] @ weights[name] + seen[i] @ along[name]
            moved.append(dz if i == len(weights) - 1 else dz * (seen[i + 1] > 0))
        p, du = _softmax(seen[-1] / temperature), moved[-1] / temperature
        back = p * (du - (p * du).sum(1, keepdims=True)) / (len(seen[0]) * temperature)
        products = {}
        for i, name in reversed(list(enumerate(weights))):
            products[name] = moved[i].T @ errors[i] + seen[i].T @ back
            back = (back @ weights[name].T + errors[i] @ along[name].T) * (seen[i] > 0)
        return {name: products[name] for name in weights}


def _softmax(logits: np.ndarray) -> np.ndarray:
    sizes = np.exp(logits - logits.max(1, keepdims=True))
    return sizes / sizes.sum(1, keepdims=True)


def full() -> dict:
    return {name: np.ones(shape, bool) for name, shape in SHAPES.items()}


def keep(scores: dict, count: int, among: dict | None = None) -> dict:
    """Return the masks of the `count` largest scores of all leaves together, among the given places."""
    mask = largest_in_tree(scores, count, among)
    rest = {name: ~m if among is None else among[name] & ~m for name, m in mask.items()}
    least = min(scores[name][m].min(initial=np.inf) for name, m in mask.items())
    most = max(scores[name][r].max(initial=-np.inf) for name, r in rest.items())
    assert least - most > 1e-5 * abs(least), "a near tie, which float32 may decide in another way"
    return mask


def shares(scores: dict) -> dict:
    """Return scores over the sum of their sizes."""
    total = sum(np.abs(s).sum() for s in scores.values())
    return {name: s / total for name, s in scores.items()}


def record(index: int, mask: dict, scores: dict | None = None) -> dict:
    """Return the record of a round: its mask and counts, and in some rounds the scores that led to them."""
    kept = {"mask": mask, "living": {name: int(m.sum()) for name, m in mask.items()}}
    return kept if scores is None or index % EVERY else {**kept, "scores": shares(scores)}
