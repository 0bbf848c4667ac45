"""MEST, elastic mutation: prune by magnitude, grow at random, in stages of less and less exchange."""

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, count_of, largest

ABOUT = {
    "paper": "Yuan et al., 2021",
    "repository": "boone891214/MEST",
    "commit": "a428026",
    "settings": {"density": 0.3, "every": 3, "stop": 18, "drop_fraction": 0.2},
    "deviations": [
        "Newborn weights take no step in the update that grows them; the authors' refresh precedes the first batch of"
        " an epoch, which moves them.",
        "Newborn weights have no momentum, where one that is dropped and grown at once has its old one.",
        "Counts are rounded, where the authors take a percentile and truncate.",
        "The stages end at 3/4 of the last refresh and there, where the authors' end at epochs 90 and 120.",
        "The random numbers by which weights grow are given.",
    ],
}


def run(density: float, every: int, stop: int, drop_fraction: float) -> list[dict]:
    problem = Problem(density)
    first = {name: largest(np.abs(w), count_of(density, w)) for name, w in problem.weights.items()}
    training, stages = Run(problem.weights, first), (round(0.75 * stop), stop)
    for t in range(STEPS):
        stayed = training.mask
        if (t <= stop and t % every == 0) or t in stages:
            part = drop_fraction * (1 if t < stages[0] else 0.5 if t < stages[1] else 0)
            pruned = {
                name: largest(np.abs(w), count_of(density * (1 - part), w), training.mask[name])
                for name, w in training.weights.items()
            }
            training.refresh(pruned)
            training.refresh(
                {
                    name: m | largest(problem.numbers[t][name], count_of(density, m) - int(m.sum()), ~m)
                    for name, m in pruned.items()
                }
            )
            stayed = pruned
        training.step(problem.gradients[t], stayed)
    return training.steps
