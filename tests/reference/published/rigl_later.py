"""RigL that begins late, and whose newborn weights start at a part of their gradient."""

from tests.reference.problem import Problem, Run
from tests.reference.published import rigl

ABOUT = {
    **rigl.ABOUT,
    "method": "rigl",
    "settings": {"density": 0.4, "every": 4, "start": 5, "stop": 20, "drop_fraction": 0.3, "grow_divisor": 10},
    "deviations": [
        *rigl.ABOUT["deviations"],
        "The cosine begins at the first refresh, where the authors' counts all steps.",
    ],
}


def run(density: float, grow_divisor: int, **timing) -> list[dict]:
    problem = Problem(density)
    training = Run(problem.weights, problem.mask)
    return rigl.train(problem, training, **timing, grown=lambda gradient: gradient / grow_divisor)
