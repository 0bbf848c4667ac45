"""Uniform+: the first layer stays dense, the last keeps at least a fifth, and the others share the rest."""

import numpy as np

from tests.reference.problem import whole
from tests.reference.published.erk import SHAPES

ABOUT = {
    "paper": "Gale et al., 2019; Lee et al., 2021",
    "repository": "jaeho-lee/layer-adaptive-sparsity",
    "commit": "94e53b1",
    "settings": {"densities": [0.15, 0.3, 0.6, 0.9], "first": "^0/", "last": "^4/"},
    "deviations": [
        "The budget is rounded once and shared in whole counts, by largest remainder; the authors round each leaf's.",
        "The first layer stays dense whatever it is, in the authors' code only if it is a convolution.",
    ],
}


def rounds(densities: list[float], first: str, last: str) -> list[dict]:
    assert (first, last) == ("^0/", "^4/")
    return [{"living": _counts(density)} for density in densities]


def _counts(density: float) -> dict:
    sizes = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}
    first, *middle, last = sizes
    total = sum(sizes.values())
    budget = round(density * total)
    pruned = total - budget
    part = pruned / (total - sizes[first])
    if (1 - part) * sizes[last] >= 0.2 * sizes[last]:
        shares = {name: (1 - part) * sizes[name] for name in (*middle, last)}
    else:
        part = (pruned - 0.8 * sizes[last]) / sum(sizes[name] for name in middle)
        shares = {**{name: (1 - part) * sizes[name] for name in middle}, last: 0.2 * sizes[last]}
    return whole({first: sizes[first], **shares}, budget)
