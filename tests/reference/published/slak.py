"""SLaK's sparse training: SNIP's densities, masks and growth at random, and an average that knows newborn weights."""

import math

import numpy as np

from tests.reference.problem import MOMENTUM, RATE, STEPS, Problem, cosine, largest, record

SHAPES = {"head/kernel": (3, 4), "large/kernel": (5, 2, 1, 4), "linear/kernel": (8, 5), "norm/scale": (5,)}
ABOUT = {
    "method": "slak",
    "test": "test_transform_traces",
    "paper": "Liu et al., 2023",
    "repository": "VITA-Group/SLaK",
    "commit": "44b4aab",
    "settings": {"density": 0.6, "every": 4, "prune_rate": 0.3, "decay": 0.9, "optimizer": "sgd"},
    "deviations": [
        "SNIP keeps the rounded number of weights and that at its threshold; the authors truncate, and compare"
        " strictly.",
        "Masks keep and grow the expected number of weights, those of the largest of random numbers that are given; the"
        " authors flip a coin for each weight.",
        "A refresh comes before the update of the next step and after its gradient, where the authors refresh after"
        " the update. Newborn weights rest in that update, and the refresh after the last one is left out.",
    ],
}


def first_weights(problem: Problem) -> dict:
    """The problem's weights, of which those of the head matter most to the loss."""
    return {name: w + 4 * np.sign(w) * (name == "head/kernel") for name, w in problem.weights.items()}


def snip(weights: dict, gradients: dict, keep_ratio: float, masked: list[str]) -> list[float]:
    grads_abs = [np.abs(weights[name] * gradients[name]) for name in masked]
    all_scores = np.concatenate([g.ravel() for g in grads_abs])
    acceptable_score = np.sort(all_scores)[::-1][round(all_scores.size * keep_ratio) - 1]
    return [float((g < acceptable_score).sum() / g.size) for g in grads_abs]


class SGD:
    """Steps every weight, dead ones too; `state` holds what apply_mask also masks."""

    def __init__(self, weights: dict) -> None:
        self.weights = dict(weights)
        self.state = {"momentum": {name: np.zeros_like(w) for name, w in weights.items()}}

    def step(self, gradients: dict, resting: dict) -> None:
        for name, g in gradients.items():
            buffer = MOMENTUM * self.state["momentum"][name] + g
            self.state["momentum"][name] = np.where(resting[name], 0, buffer)
            self.weights[name] = np.where(resting[name], 0, self.weights[name] - RATE * buffer)


class Masking:
    def __init__(self, optimizer: SGD, gradients: dict, density: float, numbers: dict) -> None:
        self.optimizer = optimizer
        names = [name for name, w in optimizer.weights.items() if w.ndim in (2, 4)]
        sparsities = snip(optimizer.weights, gradients, density, names)
        self.masks = {
            name: largest(numbers[name], round((1 - sparsity) * numbers[name].size))
            for name, sparsity in zip(names, sparsities, strict=True)
        }
        for name in [name for name, mask in self.masks.items() if mask.mean() >= 0.99]:
            self.masks.pop(name)
        self.apply_mask()

    def step(self, gradients: dict, resting: dict) -> None:
        self.optimizer.step(gradients, resting)
        self.apply_mask()

    def apply_mask(self) -> None:
        for tree in (self.optimizer.weights, *self.optimizer.state.values()):
            tree.update({name: tree[name] * mask for name, mask in self.masks.items()})

    def truncate_weights(self, prune_rate: float, numbers: dict) -> None:
        for name, mask in self.masks.items():
            kept = magnitude_prune(mask, self.optimizer.weights[name], prune_rate)
            removed = int(mask.sum()) - int(kept.sum())
            self.masks[name] = kept | largest(numbers[name], removed, ~kept)
        self.apply_mask()


def magnitude_prune(mask: np.ndarray, weight: np.ndarray, prune_rate: float) -> np.ndarray:
    nonzeros = int(mask.sum())
    num_remove = math.ceil(prune_rate * nonzeros)
    k = mask.size - nonzeros + num_remove
    new = mask.ravel().copy()
    new[np.argsort(np.abs(weight).ravel(), kind="stable")[:k]] = False
    return new.reshape(mask.shape)


def update_ema(ema: dict, weights: dict, masks: dict, decay: float) -> dict:
    new = {name: e * decay + (1 - decay) * weights[name] for name, e in ema.items()}
    for name, mask in masks.items():
        new_weights_diff = ((ema[name] != 0) ^ mask) & mask
        new[name] = new[name] * mask + new_weights_diff * decay * weights[name]
    return new


def run(density: float, every: int, prune_rate: float, decay: float, optimizer: str, make=SGD) -> list[dict]:
    problem = Problem(1.0, SHAPES)
    weights = first_weights(problem)
    inner = make(weights)
    masking = Masking(inner, problem.slope(0, weights), density, problem.numbers[0])
    assert set(masking.masks) == {"large/kernel", "linear/kernel"}, "the head is not dense"
    ema, steps, resting = weights, [], dict.fromkeys(weights, False)
    for t in range(STEPS):
        masking.step(problem.slope(t, inner.weights), resting)
        ema = update_ema(ema, inner.weights, masking.masks, decay)
        steps.append(record(masking.masks, weights=inner.weights, average=ema, **inner.state))
        resting = dict.fromkeys(weights, False)
        if (t + 1) % every == 0 and t + 1 < STEPS:
            before = dict(masking.masks)
            masking.truncate_weights(cosine(prune_rate, 0.005, t + 1, STEPS), problem.numbers[t + 1])
            resting |= {name: mask & ~before[name] for name, mask in masking.masks.items()}
    return steps
