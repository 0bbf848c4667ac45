"""Early-Bird tickets: the newest mask of channels lies near each of the four before it."""

import numpy as np

ABOUT = {
    "paper": "You et al., 2020",
    "repository": "RICE-EIC/Early-Bird-Tickets",
    "commit": "4a16ae0",
    "settings": {"density": 0.5, "epochs": 18},
    "deviations": [
        "The rounded count of channels is kept, where the authors' threshold is one that is pruned, too.",
        "Distances from the masks that are there are given while the queue fills, where the authors' stay 1.",
    ],
}
CHANNELS = {"0/kernel": 12, "1/kernel": 20}


def scales(epochs: int) -> list[dict]:
    """Return scales of two batch norms that move less and less."""
    generator = np.random.default_rng(12)
    end = {name: generator.standard_normal(n) for name, n in CHANNELS.items()}
    move = lambda g, t: g + generator.standard_normal(g.size) * 2 * 0.75**t
    return [{name: move(g, t) for name, g in end.items()} for t in range(epochs)]


def rounds(density: float, epochs: int) -> list[dict]:
    seen, queue, distances = [], [], []
    for gammas in scales(epochs):
        sizes = np.abs(np.concatenate(list(gammas.values())))
        mask = sizes >= np.sort(sizes)[len(sizes) - round(density * len(sizes))]
        queue = [*queue, mask][-5:]
        full = len(queue) == 5
        if full:
            distances = [float(1 - (mask == old).mean()) for old in queue[:-1]]
        parts = dict(zip(gammas, np.split(mask, [CHANNELS["0/kernel"]]), strict=True))
        seen.append(
            {
                "mask": parts,
                "living": {name: int(m.sum()) for name, m in parts.items()},
                "found": {"of all": full and max(distances) <= 0.1},
                **({"distances": {"of all": distances}} if full else {}),
            }
        )
    worst = [max(epoch["distances"]["of all"]) for epoch in seen[4:]]
    assert any(0.1 < w < 0.2 for w in worst)
    assert any(w < 0.1 for w in worst)
    return seen
