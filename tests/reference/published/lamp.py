"""LAMP: global pruning by squares over the sum of all squares of the leaf that are no smaller, again and again."""

import numpy as np

from tests.reference.network import Network, full, keep, record

ABOUT = {
    "paper": "Lee et al., 2021",
    "repository": "jaeho-lee/layer-adaptive-sparsity",
    "commit": "94e53b1",
    "settings": {"rounds": 6, "amount": 0.2},
    "deviations": [],
}


def rounds(rounds: int, amount: float) -> list[dict]:
    weights, mask, seen = Network().weights, full(), []
    for _ in range(rounds):
        scores = {name: _normalised((w * mask[name]) ** 2) for name, w in weights.items()}
        count = round((1 - amount) * sum(int(m.sum()) for m in mask.values()))
        mask = keep(scores, count, mask)
        seen.append(record(0, mask, scores))
    plain = keep({name: np.abs(w) for name, w in weights.items()}, count)
    assert any((mask[name] != plain[name]).any() for name in mask), "it is not global magnitude pruning in this trace"
    return seen


def _normalised(squares: np.ndarray) -> np.ndarray:
    order = np.argsort(squares, axis=None, kind="stable")
    ascending = squares.ravel()[order]
    before = np.concatenate([[0.0], np.cumsum(ascending)[:-1]])
    scores = np.empty(squares.size)
    scores[order] = ascending / (squares.sum() - before)
    return scores.reshape(squares.shape)
