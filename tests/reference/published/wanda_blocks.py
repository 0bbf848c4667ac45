"""Wanda on a language model: a block's layers are scored and pruned by its dense run, then it runs again, pruned."""

import numpy as np

from tests.reference.decoder import LINEARS, Decoder, by_block
from tests.reference.network import record
from tests.reference.problem import largest

ABOUT = {
    "method": "wanda_blocks",
    "paper": "Sun et al., 2024",
    "repository": "locuslab/wanda",
    "commit": "8e8fc87",
    "settings": {"density": 0.5},
    "deviations": ["Counts are rounded, where the authors truncate those of the pruned weights."],
}


class WrappedGPT:
    """Running mean over sequences of the squared norms of a layer's inputs."""

    def __init__(self, columns: int) -> None:
        self.scaler_row, self.nsamples = np.zeros(columns), 0

    def add_batch(self, inp: np.ndarray) -> None:
        self.scaler_row *= self.nsamples / (self.nsamples + 1)
        self.nsamples += 1
        self.scaler_row += np.linalg.norm(inp, axis=0) ** 2 / self.nsamples


def rounds(density: float, group: int | None = None) -> list[dict]:
    model = Decoder()
    masks, inps = [], model.embed()
    for number, linears in enumerate(model.layers):
        wrapped = {name: WrappedGPT(columns) for name, (_, columns) in LINEARS.items()}
        for inp in inps:
            model.forward(number, linears, inp, hook=lambda name, x, wrapped=wrapped: wrapped[name].add_batch(x))
        metric = {name: np.abs(w) * np.sqrt(wrapped[name].scaler_row)[None] for name, w in linears.items()}
        masks.append({name: keep(m, density, group or m.shape[1]) for name, m in metric.items()})
        pruned = {name: w * masks[-1][name] for name, w in linears.items()}
        inps = [model.forward(number, pruned, inp) for inp in inps]
    return [record(0, by_block(masks))]


def keep(metric: np.ndarray, density: float, size: int) -> np.ndarray:
    """Return the masks of the highest of each output, among every `size` consecutive inputs."""
    mask = np.zeros(metric.shape, bool)
    for row in range(len(metric)):
        for first in range(0, metric.shape[1], size):
            part = metric[row, first : first + size]
            mask[row, first : first + size] = largest(part, round(density * len(part)))
    return mask
