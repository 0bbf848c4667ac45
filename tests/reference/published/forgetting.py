"""Forgetting events: how often an example was right and wrong at its next presentation, over several trainings."""

import numpy as np

ABOUT = {
    "paper": "Toneva et al., 2019",
    "repository": "mtoneva/example_forgetting",
    "commit": "d51c1aa",
    "settings": {"runs": 3, "epochs": 9},
    "deviations": [],
}


def presentations(runs: int, epochs: int) -> np.ndarray:
    """Return (runs, epochs, examples) bool: who was right, with some examples that a training never learns."""
    generator = np.random.default_rng(41)
    return generator.random((runs, epochs, 25)) < generator.random(25) * generator.integers(2, size=(runs, 1, 25))


def rounds(runs: int, epochs: int) -> list[dict]:
    total, seen = np.zeros(25, int), []
    for right in presentations(runs, epochs).astype(int):
        transitions = right[1:] - right[:-1]
        total = total + np.where(right.any(0), (transitions == -1).sum(0), epochs)
        seen.append({"events": {"of all": total}, "first": {"of all": np.where(right.any(0), right.argmax(0), -1)}})
    return seen
