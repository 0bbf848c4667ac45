"""Erdős–Rényi-kernel densities: a leaf keeps in proportion to the sum of its dimensions, up to all that it has."""

import numpy as np

from tests.reference.problem import whole

SHAPES = {
    "0/kernel": (3, 3, 3, 8),
    "1/kernel": (3, 3, 8, 16),
    "2/kernel": (1, 1, 16, 6),
    "3/kernel": (24, 20),
    "4/kernel": (20, 10),
}
ABOUT = {
    "paper": "Evci et al., 2020",
    "repository": "google-research/rigl",
    "commit": "d39fc7d",
    "settings": {"densities": [0.1, 0.3, 0.6, 0.9]},
    "deviations": [
        "The budget is rounded once and shared in whole counts, by largest remainder; the authors truncate the pruned"
        " weights of each leaf, before and after they are shared.",
    ],
}


def rounds(densities: list[float]) -> list[dict]:
    return [{"living": counts(density, kernel_ratio)} for density in densities]


def counts(density: float, ratio) -> dict:
    sizes = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}
    budget = round(density * sum(sizes.values()))
    parts = densities(SHAPES, budget / sum(sizes.values()), ratio)
    return whole({name: d * sizes[name] for name, d in parts.items()}, budget)


def kernel_ratio(shape: tuple[int, ...]) -> float:
    return float(np.sum(shape) / np.prod(shape))


def densities(shapes: dict, density: float, ratio=kernel_ratio) -> dict:
    """Return the density of each leaf; those that would exceed 1 become dense and the others share the rest."""
    dense: set[str] = set()
    while True:
        rest = {name: np.prod(shape) for name, shape in shapes.items() if name not in dense}
        budget = density * sum(rest.values()) - (1 - density) * sum(np.prod(shapes[name]) for name in dense)
        raw = {name: ratio(shapes[name]) for name in rest}
        epsilon = budget / sum(raw[name] * size for name, size in rest.items())
        highest = max(raw.values())
        if highest * epsilon <= 1:
            return {name: 1.0 if name in dense else float(epsilon * raw[name]) for name in shapes}
        dense |= {name for name in raw if raw[name] == highest}
