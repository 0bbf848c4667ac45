"""Global MP with a minimum threshold: no leaf falls below a number of weights; the other leaves give the difference."""

import numpy as np

from tests.reference.problem import largest
from tests.reference.published import global_gradual

ABOUT = {
    **global_gradual.ABOUT,
    "settings": {**global_gradual.ABOUT["settings"], "density": 0.3, "minimum": 9},
    "deviations": [
        *global_gradual.ABOUT["deviations"],
        "The minimum is a number of weights, where the authors give it as a percentage of the whole.",
        "Leaves above the minimum share the rest by magnitude, where the authors scale all their sparsities by one"
        " factor; with two leaves this is the same.",
    ],
}


def run(density: float, scope: str, start: int, stop: int, every: int, minimum: int) -> list[dict]:
    assert scope == "tree"
    reached = []

    def prune(weights: dict, mask: dict, due: float) -> dict:
        counts = {name: int(m.sum()) for name, m in global_gradual.cut(weights, mask, due).items()}
        refined = _refine(counts, {name: m.size for name, m in mask.items()}, minimum)
        reached.append(refined != counts)
        return {name: largest(np.abs(w), refined[name], mask[name]) for name, w in weights.items()}

    steps = global_gradual.train(density, start, stop, every, prune)
    assert any(reached), "the minimum binds in this trace"
    return steps


def _refine(counts: dict, sizes: dict, minimum: int) -> dict:
    """Return counts of at least the minimum: raise those below it, and scale sparsities until the total is back."""
    size = np.array(list(sizes.values()), float)
    sparsity = 1 - np.array(list(counts.values())) / size
    target = total = float((sparsity * size).sum())
    assert (size > minimum).all()
    assert target <= sum(size - minimum)
    while ((1 - sparsity) * size < minimum - 1e-9).any() or total < target - 1e-9:
        sparsity *= target / total
        sparsity = np.where((1 - sparsity) * size < minimum, 1 - minimum / size, sparsity)
        total = float((sparsity * size).sum())
    return {name: round(float(kept)) for name, kept in zip(counts, (1 - sparsity) * size, strict=True)}
