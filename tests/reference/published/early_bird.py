"""Early-Bird tickets: the newest mask of channels lies near each of the four before it."""

import numpy as np

from tests.reference.published import slimming_score as slimming

ABOUT = {
    "paper": "You et al., 2020",
    "repository": "RICE-EIC/Early-Bird-Tickets",
    "commit": "4a16ae0",
    "settings": {"density": 0.5, "epochs": 18},
    "deviations": [
        *slimming.ABOUT["deviations"],
        "Distances from the masks that are there are given while the queue fills, where the authors' stay 1.",
    ],
}


def rounds(density: float, epochs: int) -> list[dict]:
    seen, queue = [], []
    for gammas in slimming.scales(epochs):
        epoch = slimming.cut(gammas, density)
        mask = np.concatenate(list(epoch["mask"].values()))
        queue = [*queue, mask][-5:]
        full = len(queue) == 5
        distances = [float(1 - (mask == old).mean()) for old in queue[:-1]]
        seen.append({**epoch, "found": {"of all": full and max(distances) <= 0.1}})
        if full:
            seen[-1]["distances"] = {"of all": distances}
    worst = [max(epoch["distances"]["of all"]) for epoch in seen[4:]]
    assert any(0.1 < w < 0.2 for w in worst)
    assert any(w < 0.1 for w in worst)
    return seen
