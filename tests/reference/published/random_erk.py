"""Random pruning by Erdős–Rényi-kernel ratios: a leaf's density goes with its fans over its size."""

from tests.reference.network import SIZE, Network, record
from tests.reference.problem import largest, whole
from tests.reference.published import erk

ABOUT = {
    "paper": "Liu et al., 2022",
    "repository": "VITA-Group/Random_Pruning",
    "commit": "871077f",
    "settings": {"density": 0.72},
    "deviations": [
        "The budget is rounded once and shared in whole counts, by largest remainder; the authors keep each weight with"
        " the probability that is its leaf's density.",
        "The random numbers are given, and the largest are kept.",
    ],
}


def rounds(density: float) -> list[dict]:
    numbers, budget = Network().numbers, round(density * SIZE)
    densities = erk.densities({name: u.shape for name, u in numbers.items()}, budget / SIZE)
    assert 1 in densities.values(), "a leaf becomes dense in this trace"
    counts = whole({name: d * numbers[name].size for name, d in densities.items()}, budget)
    return [record(0, {name: largest(u, counts[name]) for name, u in numbers.items()})]
