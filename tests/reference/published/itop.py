"""ITOP: rare and large exchanges over the whole training, here with random growth."""

import math

from tests.reference.problem import STEPS, Problem, Run, cosine, exchange

ABOUT = {
    "paper": "Liu et al., 2021",
    "repository": "Shiweiliuiiiiiii/In-Time-Over-Parameterization",
    "commit": "1b6a89e",
    "settings": {"density": 0.4, "steps": STEPS, "every": 5, "drop_fraction": 0.5},
    "deviations": [
        "A refresh comes before the update of the next step, where the authors refresh after the update.",
        "As many weights grow as were dropped, where the number of the authors' random ones varies.",
        "The random numbers by which weights grow are given.",
    ],
}


def run(density: float, steps: int, every: int, drop_fraction: float) -> list[dict]:
    problem = Problem(density)
    training = Run(problem.weights, problem.mask)
    for t in range(STEPS):
        stayed = training.mask
        if t > 0 and t % every == 0:
            fraction = cosine(drop_fraction, 0.005, t, steps)
            stayed = training.refresh(
                {
                    name: exchange(
                        training.weights[name], m, problem.numbers[t][name], max(1, math.ceil(fraction * m.sum()))
                    )
                    for name, m in training.mask.items()
                }
            )
        training.step(problem.gradients[t], stayed)
    return training.steps
