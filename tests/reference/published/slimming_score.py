"""Network slimming: the channels of the largest scales of batch norms, over all layers together, stay."""

import numpy as np

from tests.reference.problem import largest_in_tree

ABOUT = {
    "paper": "Liu et al., 2017",
    "repository": "Eric-mingjie/network-slimming",
    "commit": "b395dc0",
    "settings": {"density": 0.3},
    "deviations": ["The rounded count of channels is kept, where the authors' threshold is one that is pruned, too."],
}
CHANNELS = {"0/kernel": 12, "1/kernel": 20}


def scales(epochs: int) -> list[dict]:
    """Return scales of two batch norms that move less and less."""
    generator = np.random.default_rng(12)
    end = {name: generator.standard_normal(n) for name, n in CHANNELS.items()}
    move = lambda g, t: g + generator.standard_normal(g.size) * 2 * 0.75**t
    return [{name: move(g, t) for name, g in end.items()} for t in range(epochs)]


def rounds(density: float) -> list[dict]:
    return [cut(scales(1)[0], density)]


def cut(gammas: dict, density: float) -> dict:
    """Return the mask of the channels, and its counts."""
    sizes = {name: np.abs(g) for name, g in gammas.items()}
    mask = largest_in_tree(sizes, round(density * sum(s.size for s in sizes.values())))
    return {"mask": mask, "living": {name: int(m.sum()) for name, m in mask.items()}}
