"""RigL on blocks of 4 × 4, which live and die by the mean of their scores."""

import numpy as np

from tests.reference.problem import Problem, Run, exchange
from tests.reference.published import rigl

SHAPES = {"first/kernel": (12, 8), "last/kernel": (8, 8)}
BLOCK = 4
ABOUT = {
    "method": "rigl",
    "paper": "Evci et al., 2020",
    "repository": "google-research/jaxpruner",
    "commit": "f133ee5",
    "settings": {"density": 0.5, "every": 4, "stop": 20, "drop_fraction": 0.4, "block": BLOCK},
    "deviations": rigl.ABOUT["deviations"][:1],
}


def first_mask(problem: Problem) -> dict:
    """Return a mask of whole blocks: those with a living upper left corner."""
    return {name: _spread(m[::BLOCK, ::BLOCK]) for name, m in problem.mask.items()}


def run(density: float, every: int, stop: int, drop_fraction: float, block: int) -> list[dict]:
    problem = Problem(density, SHAPES)
    training = Run(problem.weights, first_mask(problem))
    timing = {"every": every, "stop": stop, "drop_fraction": drop_fraction}
    return rigl.train(problem, training, **timing, exchange=_exchange_blocks)


def _exchange_blocks(weights: np.ndarray, mask: np.ndarray, grow: np.ndarray, fraction: float) -> np.ndarray:
    alive = mask[::BLOCK, ::BLOCK]
    return _spread(exchange(_pool(weights), alive, _pool(grow), round(fraction * alive.sum())))


def _pool(x: np.ndarray) -> np.ndarray:
    rows, columns = (n // BLOCK for n in x.shape)
    return np.abs(x).reshape(rows, BLOCK, columns, BLOCK).mean((1, 3))


def _spread(blocks: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(blocks, BLOCK, 0), BLOCK, 1)
