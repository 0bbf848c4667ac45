"""The tiny problem on which every published procedure is transcribed, and the parts that the transcriptions share."""

import numpy as np

RATE, MOMENTUM, STEPS = 0.05, 0.9, 24
SHAPES = {"first/kernel": (5, 8), "last/kernel": (6, 4)}


class Problem:
    """Weights, a mask that is given to the methods which start at random, and gradients and numbers of each step."""

    def __init__(self, density: float, shapes: dict = SHAPES) -> None:
        generator = np.random.default_rng(17)
        draw = lambda make: {name: make(shape) for name, shape in shapes.items()}
        self.weights = draw(generator.standard_normal)
        self.gradients = [draw(generator.standard_normal) for _ in range(STEPS)]
        self.numbers = [draw(generator.random) for _ in range(STEPS)]  # in the place of random ones
        orders = draw(generator.random)
        self.mask = {name: largest(order, count_of(density, order)) for name, order in orders.items()}

    def slope(self, step: int, realised: dict) -> dict:
        """Return the gradients of a loss that is quadratic in the weights which the network uses."""
        return {name: self.gradients[step][name] + p for name, p in realised.items()}


class Run:
    """A training by SGD with momentum under a mask, and the record of its steps."""

    def __init__(self, weights: dict, mask: dict) -> None:
        self.mask = {name: m.copy() for name, m in mask.items()}
        self.weights = {name: w * self.mask[name] for name, w in weights.items()}
        self.momentum = {name: np.zeros_like(w) for name, w in weights.items()}
        self.steps: list[dict] = []

    def die(self, mask: dict) -> None:
        """Zero the weights and the momentum outside a mask, which is not the run's own yet."""
        for name, m in mask.items():
            self.weights[name] = self.weights[name] * m
            self.momentum[name] = self.momentum[name] * m

    def refresh(self, mask: dict) -> dict:
        """Take over a mask; its newborn weights and all dead ones are zero. Return the weights that were there."""
        stayed = {name: self.mask[name] & m for name, m in mask.items()}
        self.die(stayed)
        self.mask = mask
        return stayed

    def step(self, gradients: dict, trained: dict | None = None) -> None:
        """Update the `trained` weights, by default all living ones, and record the step."""
        for name, m in (self.mask if trained is None else trained).items():
            self.momentum[name] = MOMENTUM * self.momentum[name] + gradients[name] * m
            self.weights[name] = self.weights[name] - RATE * self.momentum[name] * m
        self.record()

    def record(self) -> None:
        self.steps.append(
            {
                "mask": self.mask,
                "weights": dict(self.weights),
                "momentum": {name: self.momentum[name] * m for name, m in self.mask.items()},
                "living": {name: int(m.sum()) for name, m in self.mask.items()},
            }
        )


class Descent:
    """SGD with momentum on the leaves of one tree, such as latent weights or scores."""

    def __init__(self, values: dict, *, decay: float = 0.0) -> None:
        self.values, self.decay = dict(values), decay
        self.momentum = {name: np.zeros_like(v) for name, v in values.items()}

    def step(self, gradients: dict) -> None:
        for name, g in gradients.items():
            self.momentum[name] = MOMENTUM * self.momentum[name] + g + self.decay * self.values[name]
            self.values[name] = self.values[name] - RATE * self.momentum[name]


def record(mask: dict, **trees: dict) -> dict:
    """Return the record of a step: a mask, its counts, and trees of values, each a copy."""
    living = {name: int(m.sum()) for name, m in mask.items()}
    return {"mask": dict(mask), **{what: dict(tree) for what, tree in trees.items()}, "living": living}


def count_of(density: float, array: np.ndarray) -> int:
    return int(np.floor(density * array.size + 0.5))


def largest(score: np.ndarray, count: int, among: np.ndarray | None = None) -> np.ndarray:
    """Return the mask of the `count` largest scores among the given places."""
    among = np.ones(score.shape, bool) if among is None else among
    flat = np.where(among, score, -np.inf).ravel()
    chosen = np.zeros(flat.size, bool)
    chosen[np.argsort(-flat, kind="stable")[:count]] = True
    return chosen.reshape(score.shape) & among


def largest_in_tree(scores: dict, count: int, among: dict | None = None) -> dict:
    """Return the masks of the `count` largest scores of all leaves together, among the given places."""
    join = lambda tree: np.concatenate([leaf.ravel() for leaf in tree.values()])
    chosen = largest(join(scores), count, None if among is None else join(among))
    parts = np.split(chosen, np.cumsum([leaf.size for leaf in scores.values()])[:-1])
    return {name: part.reshape(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def exchange(weights: np.ndarray, mask: np.ndarray, grow: np.ndarray, dropped: int) -> np.ndarray:
    """Drop the smallest living weights, then grow as many of the largest scores outside what is left."""
    kept = largest(np.abs(weights), int(mask.sum()) - dropped, mask)
    return kept | largest(grow, dropped, ~kept)


def cosine(initial: float, final: float, step: int, stop: int) -> float:
    return final + (initial - final) / 2 * (1 + np.cos(np.pi * min(step / stop, 1)))


def whole(shares: dict, total: int) -> dict:
    """Return whole counts near the shares with the given sum: the largest remainders are rounded up."""
    counts = {name: int(np.floor(share)) for name, share in shares.items()}
    for name in sorted(shares, key=lambda name: counts[name] - shares[name])[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
