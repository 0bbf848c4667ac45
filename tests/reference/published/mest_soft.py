"""MEST with a soft memory bound (EM&S): grow beyond the target at random, and prune back a period later."""

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, count_of, largest
from tests.reference.published import mest

ABOUT = {
    **mest.ABOUT,
    "method": "mest",
    "settings": {"density": 0.25, "every": 3, "stop": 18, "drop_fraction": 0, "excess": 0.4},
}


def run(density: float, every: int, stop: int, drop_fraction: float, excess: float) -> list[dict]:
    assert drop_fraction == 0
    problem = Problem(density)
    first = {name: largest(np.abs(w), count_of(density, w)) for name, w in problem.weights.items()}
    training, stages = Run(problem.weights, first), (round(0.75 * stop), stop)
    for t in range(STEPS):
        stayed = training.mask
        if (t <= stop and t % every == 0) or t in stages:
            extra = excess * (1 if t < stages[0] else 0.5 if t < stages[1] else 0)
            stayed = {
                name: largest(np.abs(w), count_of(density, w), training.mask[name])
                for name, w in training.weights.items()
            }
            training.refresh(stayed)
            training.refresh(
                {
                    name: m | largest(problem.numbers[t][name], round(extra * count_of(density, m)), ~m)
                    for name, m in stayed.items()
                }
            )
        training.step(problem.gradients[t], stayed)
    return training.steps
