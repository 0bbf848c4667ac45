"""Greedy soup: members join the average from the best to the worst, as long as it evaluates better with them."""

import numpy as np

MEMBERS, WEIGHTS = 7, 12
ABOUT = {
    "paper": "Wortsman et al., 2022",
    "repository": "mlfoundations/model-soups",
    "commit": "d5398f1",
    "settings": {"spread": 1.0},
    "deviations": ["A member also joins where the average is as good as before, as in the paper; not in the code."],
}


def members(spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of members, and those that evaluate best."""
    generator = np.random.default_rng(3)
    best = generator.standard_normal(WEIGHTS)
    return best + spread * generator.standard_normal((MEMBERS, WEIGHTS)) * np.linspace(0.5, 2, MEMBERS)[:, None], best


def rounds(spread: float) -> list[dict]:
    weights, best = members(spread)
    accuracy = lambda w: -np.abs(w - best).sum()
    ranked = sorted(range(MEMBERS), key=lambda i: accuracy(weights[i]), reverse=True)
    joined, soup = [ranked[0]], weights[ranked[0]]
    for i in ranked[1:]:
        n = len(joined)
        candidate = soup * (n / (n + 1)) + weights[i] * (1 / (n + 1))
        if accuracy(candidate) > accuracy(soup):
            joined, soup = [*joined, i], candidate
    assert 1 < len(joined) < MEMBERS
    return [{"soup": {"w": soup}, "shares": {"of members": np.isin(np.arange(MEMBERS), joined) / len(joined)}}]
