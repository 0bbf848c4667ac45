"""RigL: drop the smallest weights of each leaf, grow where the dense gradient is largest."""

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, cosine, exchange

ABOUT = {
    "paper": "Evci et al., 2020",
    "repository": "google-research/rigl",
    "commit": "d39fc7d",
    "settings": {"density": 0.4, "every": 4, "stop": 20, "drop_fraction": 0.3},
    "deviations": [
        "A refresh step is an ordinary step for the weights that stay, where the authors' weights rest.",
        "The number of dropped weights is rounded, where the authors truncate it.",
        "The authors add noise of size 1e-5 to the magnitudes.",
    ],
}


def exchange_weights(weights: np.ndarray, mask: np.ndarray, grow: np.ndarray, fraction: float) -> np.ndarray:
    return exchange(weights, mask, grow, round(fraction * mask.sum()))


def run(density: float, every: int, stop: int, drop_fraction: float) -> list[dict]:
    problem = Problem(density)
    return train(problem, Run(problem.weights, problem.mask), every=every, stop=stop, drop_fraction=drop_fraction)


def train(
    problem: Problem,
    training: Run,
    *,
    every: int,
    stop: int,
    drop_fraction: float,
    start: int = 0,
    exchange=exchange_weights,
    grown=lambda gradient: np.zeros_like(gradient),
) -> list[dict]:
    """Exchange weights at every refresh; newborn ones begin at grown(gradient)."""
    for t in range(STEPS):
        stayed = training.mask
        if start <= t <= stop and (t - start) % every == 0:
            fraction = cosine(drop_fraction, 0.0, t - start, stop - start)
            new = {
                name: exchange(training.weights[name], m, np.abs(problem.gradients[t][name]), fraction)
                for name, m in training.mask.items()
            }
            stayed = training.refresh(new)
            for name, m in new.items():
                born = m & ~stayed[name]
                training.weights[name] = np.where(born, grown(problem.gradients[t][name]), training.weights[name])
        training.step(problem.gradients[t], stayed)
    return training.steps
