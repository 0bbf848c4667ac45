"""SparseGPT on a language model: a block's layers are pruned by its dense run, then it runs again, pruned."""

import numpy as np

from tests.reference.decoder import LINEARS, Decoder, by_block
from tests.reference.network import record
from tests.reference.problem import largest

ABOUT = {
    "method": "sparsegpt_blocks",
    "paper": "Frantar & Alistarh, 2023",
    "repository": "IST-DASLab/sparsegpt",
    "commit": "147d215",
    "settings": {"density": 0.5, "blocksize": 4},
    "deviations": [
        "Each block of columns keeps the rounded count of weights, where the authors' threshold is one that is pruned."
    ],
}


class SparseGPT:
    def __init__(self, weight: np.ndarray) -> None:
        self.weight = weight.copy()
        self.hessian, self.nsamples = np.zeros((weight.shape[1],) * 2), 0

    def add_batch(self, inp: np.ndarray) -> None:
        self.hessian *= self.nsamples / (self.nsamples + 1)
        self.nsamples += 1
        inp = np.sqrt(2 / self.nsamples) * inp.T
        self.hessian += inp @ inp.T

    def fasterprune(self, density: float, blocksize: int, prunen: int, prunem: int, percdamp=0.01) -> np.ndarray:
        columns = self.weight.shape[1]
        damp = percdamp * np.mean(np.diag(self.hessian))
        hinv = np.linalg.cholesky(np.linalg.inv(self.hessian + damp * np.eye(columns))).T
        kept = np.ones(self.weight.shape, bool)
        for i1 in range(0, columns, blocksize):
            i2 = min(i1 + blocksize, columns)
            w1, hinv1 = self.weight[:, i1:i2].copy(), hinv[i1:i2, i1:i2]
            err1 = np.zeros_like(w1)
            if prunen == 0:
                scores = w1**2 / np.diag(hinv1)[None] ** 2
                mask1 = largest(scores, round(density * scores.size))
            else:
                mask1 = np.ones(w1.shape, bool)
            for i in range(i2 - i1):
                if prunen and i % prunem == 0:
                    scores = w1[:, i : i + prunem] ** 2 / np.diag(hinv1)[None, i : i + prunem] ** 2
                    for row in range(len(w1)):
                        mask1[row, i : i + prunem] = largest(scores[row], prunem - prunen)
                q = np.where(mask1[:, i], w1[:, i], 0)
                err = (w1[:, i] - q) / hinv1[i, i]
                w1[:, i:] -= err[:, None] * hinv1[i, i:][None]
                w1[:, i], err1[:, i] = q, err
            self.weight[:, i1:i2], kept[:, i1:i2] = w1, mask1
            self.weight[:, i2:] -= err1 @ hinv[i1:i2, i2:]
        return kept


def rounds(density: float, blocksize: int, prunen: int = 0, prunem: int = 0) -> list[dict]:
    model = Decoder()
    masks, weights, inps = [], [], model.embed()
    for number, linears in enumerate(model.layers):
        gpts = {name: SparseGPT(linears[name]) for name in LINEARS}
        for inp in inps:
            model.forward(number, linears, inp, hook=lambda name, x, gpts=gpts: gpts[name].add_batch(x))
        masks.append({name: gpt.fasterprune(density, blocksize, prunen, prunem) for name, gpt in gpts.items()})
        weights.append({name: gpt.weight for name, gpt in gpts.items()})
        inps = [model.forward(number, weights[-1], inp) for inp in inps]
    return [{**record(0, by_block(masks)), "weights": by_block(weights)}]
