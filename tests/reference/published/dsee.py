"""DSEE: pruned and frozen weights, a low-rank correction, and a sparse one at places of GreBsmo's residual."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record

SHAPES = {"first/kernel": (8, 7), "last/kernel": (7, 8)}
ABOUT = {
    "method": "additive",
    "test": "test_reparam_traces",
    "paper": "Chen et al., 2023",
    "repository": "VITA-Group/DSEE",
    "commit": "61844c3",
    "settings": {
        "density": 0.6,
        "rank": 2,
        "residual_density": 0.1,
        "places": {"rounds": 2, "rank_step": 2, "threshold": 0.5},
    },
    "deviations": [
        "The places are found from the first singular vectors, where the authors draw random rows.",
        "SGD with momentum stands for the authors' AdamW.",
    ],
}


def run(density: float, rank: int, residual_density: float, places: dict) -> list[dict]:
    problem, steps = Problem(density, SHAPES), []
    pruned = {name: w * problem.mask[name] for name, w in problem.weights.items()}
    spots = {name: largest_residuals(w.T, residual_density, **places).T for name, w in problem.weights.items()}
    # As torch's layers: `down` is rank × inputs, `up` outputs × rank.
    down = Descent({name: first_factor(problem, name, rank).T for name in pruned})
    up = Descent({name: np.zeros((w.shape[1], rank)) for name, w in pruned.items()})
    sparse = Descent({name: np.zeros_like(w) for name, w in pruned.items()})
    scale = 32 / rank
    for t in range(STEPS):
        low_rank = {name: (up.values[name] @ down.values[name]).T for name in pruned}
        used = {name: w + scale * (low_rank[name] + sparse.values[name] * spots[name]) for name, w in pruned.items()}
        slope = {name: g * 1e-3 for name, g in problem.slope(t, used).items()}  # the scale is large
        of_up = {name: scale * g.T @ down.values[name].T for name, g in slope.items()}
        of_down = {name: scale * up.values[name].T @ g.T for name, g in slope.items()}
        sparse.step({name: scale * g * spots[name] for name, g in slope.items()})
        up.step(of_up)
        down.step(of_down)
        left, right = ({name: v.T for name, v in tree.values.items()} for tree in (down, up))
        steps.append(record(spots, realised=used, left=left, right=right, sparse=sparse.values))
    return steps


def first_factor(problem: Problem, name: str, rank: int) -> np.ndarray:
    return 0.02 * problem.gradients[0][name][:, :rank]


def largest_residuals(w: np.ndarray, part: float, rounds: int, rank_step: int, threshold: float) -> np.ndarray:
    """Return the mask of the largest |S| where W is low-rank plus S plus noise; W is outputs × inputs."""
    rows = np.linalg.svd(w)[2][:1]
    for _ in range(rounds):
        sparse = np.zeros_like(w)
        for _ in range(2):
            columns = np.linalg.qr((w - sparse) @ rows.T)[0]
            rows = columns.T @ (w - sparse)
            sparse = w - columns @ rows
            sparse[np.abs(sparse) < threshold] = 0
        noise = w - columns @ rows - sparse
        rows = np.concatenate([rows, np.linalg.qr(noise)[1][:rank_step]])
    count = round(part * w.size)
    least = np.sort(np.abs(sparse).ravel())[-count]
    assert least > 0, "enough residuals pass the threshold"
    return np.abs(sparse) >= least
