"""LT-SFT: tune everything, keep the places that changed most since pretraining, tune these from before again."""

import numpy as np

ABOUT = {
    "paper": "Ansell et al., 2022",
    "repository": "cambridgeltl/composable-sft",
    "commit": "29f7872",
    "settings": {"count": 6, "iterations": 2},
    "deviations": ["Trainings are twenty steps of gradient descent on a logistic regression."],
}
RATE, STEPS = 0.1, 20


def problem() -> tuple[np.ndarray, np.ndarray, dict]:
    """Return examples, labels and weights that were pretrained on something else."""
    draw = np.random.default_rng(0)
    x, right = draw.normal(size=(64, 12)), draw.normal(size=12)
    return x, (x @ right > 0).astype(float), {"w": draw.normal(size=12), "b": draw.normal(size=1)}


def train(params: dict, mask: dict | None) -> dict:
    x, y, _ = problem()
    for _ in range(STEPS):
        error = 1 / (1 + np.exp(-(x @ params["w"] + params["b"]))) - y
        grads = {"w": x.T @ error / len(y), "b": error.mean(keepdims=True)}
        if mask is not None:
            grads = {n: g * mask[n] for n, g in grads.items()}
        params = {n: p - RATE * grads[n] for n, p in params.items()}
    return params


def rounds(count: int, iterations: int) -> list[dict]:
    *_, original = problem()
    params, mask = original, {n: np.zeros(p.shape, bool) for n, p in original.items()}
    for _ in range(iterations):
        previous = params
        tuned, k = train(params, None), count // iterations
        diffs = np.concatenate([np.abs(tuned[n] - original[n])[~mask[n]] for n in tuned])
        thresh = np.partition(diffs, len(diffs) - k)[len(diffs) - k]
        for n in mask:
            to_mask = (np.abs(tuned[n] - original[n]) >= thresh) & ~mask[n]
            mask[n] = to_mask | mask[n]
        params = train(previous, mask)
    return [{"mask": mask, "living": {n: int(m.sum()) for n, m in mask.items()}, "weights": params}]
