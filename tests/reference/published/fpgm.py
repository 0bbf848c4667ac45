"""FPGM: first the filters of the smallest norms go, then those with the smallest distances to all that are left."""

import numpy as np

SHAPES = {"0/kernel": (3, 3, 2, 8), "1/kernel": (3, 3, 8, 16)}
ABOUT = {
    "paper": "He et al., 2019",
    "repository": "he-y/filter-pruning-geometric-median",
    "commit": "44fbab4",
    "settings": {"density": 0.5, "norm_density": 0.75},
    "deviations": [],
}


def kernels() -> dict:
    generator = np.random.default_rng(5)
    return {name: generator.standard_normal(shape) + 0.5 for name, shape in SHAPES.items()}


def rounds(density: float, norm_density: float) -> list[dict]:
    mask, sums = {}, {}
    for name, kernel in kernels().items():
        filters = kernel.reshape(-1, kernel.shape[-1]).T
        small, similar = int(len(filters) * (1 - norm_density)), int(len(filters) * (norm_density - density))
        left = np.argsort(np.linalg.norm(filters, axis=1))[small:]
        distances = np.linalg.norm(filters[left][:, None] - filters[left][None], axis=2).sum(0)
        mask[name] = np.zeros(len(filters), bool)
        mask[name][left[np.argsort(distances)[similar:]]] = True
        sums[name] = np.full(len(filters), -1.0)
        sums[name][left] = distances
    return [{"mask": mask, "living": {name: int(m.sum()) for name, m in mask.items()}, "sums": sums}]
