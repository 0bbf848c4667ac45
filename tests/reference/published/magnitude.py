"""Global magnitude pruning at initialisation: the largest weights of all leaves together stay."""

import numpy as np

from tests.reference.network import SIZE, Network, keep, record

ABOUT = {
    "paper": "Frankle et al., 2021",
    "repository": "ganguli-lab/Synaptic-Flow",
    "commit": "9dfa57a",
    "settings": {"density": 0.21},
    "deviations": ["The count is rounded, where the authors truncate the number of pruned weights."],
}


def rounds(density: float) -> list[dict]:
    scores = {name: np.abs(w) for name, w in Network().weights.items()}
    return [record(0, keep(scores, round(density * SIZE)))]
