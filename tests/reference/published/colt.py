"""COLT: copies that train on parts of the classes; each prunes its survivors, and what all of them keep stays."""

import numpy as np

from tests.reference.network import SHAPES, Network, full, keep, record

ABOUT = {
    "paper": "Hossain et al., 2022",
    "repository": "ismail31416/COLT",
    "commit": "8d76b9d",
    "settings": {"partitions": 3, "rounds": 5, "rate": 0.15},
    "deviations": ["All leaves are pruned together, where the authors prune those of each type of layer together."],
}


def moves(partitions: int, rounds: int) -> list[list[dict]]:
    """Return what training does to the weights of each copy in each round."""
    generator = np.random.default_rng(3)
    draw = lambda: {name: 0.3 * generator.standard_normal(shape) for name, shape in SHAPES.items()}
    return [[draw() for _ in range(partitions)] for _ in range(rounds)]


def rounds(partitions: int, rounds: int, rate: float) -> list[dict]:
    first, mask, seen = Network().weights, full(), []
    for copies in moves(partitions, rounds):
        seen.append({**record(0, mask), "start": {name: w * mask[name] for name, w in first.items()}})
        living = sum(int(m.sum()) for m in mask.values())
        tickets = [
            keep({name: np.abs(w + move[name]) for name, w in first.items()}, living - round(rate * living), mask)
            for move in copies
        ]
        for i in range(1, partitions):
            tickets[i] = {name: m & tickets[i - 1][name] for name, m in tickets[i].items()}
        mask = tickets[-1]
    return seen
