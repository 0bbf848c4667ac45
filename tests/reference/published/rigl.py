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


def run(density: float, every: int, stop: int, drop_fraction: float) -> list[dict]:
    problem = Problem(density)
    training = Run(problem.weights, problem.mask)
    for t in range(STEPS):
        stayed = training.mask
        if t <= stop and t % every == 0:
            fraction = cosine(drop_fraction, 0.0, t, stop)
            stayed = training.refresh(
                {
                    name: exchange(
                        training.weights[name], m, np.abs(problem.gradients[t][name]), round(fraction * m.sum())
                    )
                    for name, m in training.mask.items()
                }
            )
        training.step(problem.gradients[t], stayed)
    return training.steps
