"""SET: drop the smallest weights of each leaf, grow as many at random."""

from tests.reference.problem import STEPS, Problem, Run, exchange

ABOUT = {
    "paper": "Mocanu et al., 2018",
    "repository": "google-research/rigl",
    "commit": "d39fc7d",
    "settings": {"density": 0.4, "every": 4, "stop": 20, "drop_fraction": 0.3},
    "deviations": [
        "A refresh comes before the update of the next step, where the authors refresh after the update.",
        "The number of dropped weights is rounded, where the authors truncate it.",
        "The random numbers by which weights grow are given.",
    ],
}


def run(density: float, every: int, stop: int, drop_fraction: float) -> list[dict]:
    problem = Problem(density)
    training = Run(problem.weights, problem.mask)
    for t in range(STEPS):
        stayed = training.mask
        if 0 < t <= stop and t % every == 0:
            stayed = training.refresh(
                {
                    name: exchange(training.weights[name], m, problem.numbers[t][name], round(drop_fraction * m.sum()))
                    for name, m in training.mask.items()
                }
            )
        training.step(problem.gradients[t], stayed)
    return training.steps
