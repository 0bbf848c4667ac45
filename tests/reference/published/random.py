"""Random pruning at a uniform density: each weight of a leaf is as likely to be kept as any other."""

from tests.reference.network import Network, record
from tests.reference.problem import largest

ABOUT = {
    "paper": "Liu et al., 2022",
    "repository": "VITA-Group/Random_Pruning",
    "commit": "871077f",
    "settings": {"density": 0.32},
    "deviations": [
        "Each leaf keeps the rounded count of weights, where the authors keep each weight with the probability that is"
        " its density.",
        "The random numbers are given, and the largest are kept.",
    ],
}


def rounds(density: float) -> list[dict]:
    numbers = Network().numbers
    return [record(0, {name: largest(u, round(density * u.size)) for name, u in numbers.items()})]
