"""AP: of what a level prunes, a part is the negative weights that moved least since the level began."""

import numpy as np

from tests.reference.problem import STEPS, Problem, Run, largest_in_tree

ABOUT = {
    "test": "test_transform_traces",
    "paper": "Liu et al., 2022",
    "repository": "Martin1937/Activate-While-Pruning",
    "commit": "95a063b",
    "settings": {"densities": [0.8, 0.64, 0.512, 0.4096], "share": 0.3},
    "deviations": [
        "The number kept is that of the density; the authors' percentile and its ties give one more or less.",
        "Biases and norms are not pruned, where the authors prune scales too.",
        "All levels prune both ways, where the authors begin with some that prune by magnitude alone.",
    ],
}


def run(densities: list[float], share: float) -> list[dict]:
    problem = Problem(1.0)
    masks, records = problem.mask, []
    size = sum(m.size for m in masks.values())
    for level, density in enumerate(densities):
        training = Run(problem.weights, masks)  # rewound
        start = dict(training.weights)
        for t in range(level * STEPS // len(densities), (level + 1) * STEPS // len(densities)):
            training.step(problem.slope(t, training.weights))
        alive, last = sum(int(m.sum()) for m in masks.values()), round(density * size)
        by_movement = round(share * (alive - last))
        sizes = {name: np.abs(w) for name, w in training.weights.items()}
        masks = largest_in_tree(sizes, last + by_movement, masks)
        moved = {name: np.where(w < 0, np.abs(w - start[name]), np.inf) for name, w in training.weights.items()}
        masks = largest_in_tree(moved, last, masks)
        living = {name: int(m.sum()) for name, m in masks.items()}
        records.append({"mask": masks, "weights": training.weights, "living": living})
    return records
