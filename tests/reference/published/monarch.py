"""Monarch: kernels projected onto two block-diagonal factors, which SGD trains with the authors' backward pass."""

import numpy as np

from tests.reference.problem import STEPS, Descent, Problem, record

SHAPES = {"first/kernel": (8, 12), "last/kernel": (12, 4)}
ABOUT = {
    "method": "monarch",
    "test": "test_reparam_traces",
    "paper": "Dao et al., 2022",
    "repository": "HazyResearch/fly",
    "commit": "6b73449",
    "settings": {"blocks": 2, "ranks": {"first/kernel": 2, "last/kernel": 1}},
    "deviations": ["SGD with momentum stands for the authors' AdamW."],
}


def run(blocks: int, ranks: dict) -> list[dict]:
    problem, steps = Problem(0.5, SHAPES), []
    factors = {name: project(w.T, blocks, blocks, ranks[name]) for name, w in problem.weights.items()}
    first, second = (Descent({name: pair[i] for name, pair in factors.items()}) for i in (0, 1))
    whole = {name: np.ones(shape, bool) for name, shape in SHAPES.items()}
    for t in range(STEPS):
        # As torch's layers: the rows of the identity are examples, and a kernel is inputs × outputs.
        used = {name: multiply(np.eye(SHAPES[name][0]), first.values[name], second.values[name]) for name in SHAPES}
        slope = {name: 0.1 * g for name, g in problem.slope(t, used).items()}  # in float32, too, steps stay near
        both = {name: backward(slope[name], first.values[name], second.values[name]) for name in SHAPES}
        first.step({name: pair[0] for name, pair in both.items()})
        second.step({name: pair[1] for name, pair in both.items()})
        steps.append(record(whole, realised=used))
    return steps


def project(m: np.ndarray, nblocks1: int, nblocks2: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """blockdiag_butterfly_project_einsum_rank, of outputs × inputs: '(l j) (k i) -> k j l i'."""
    l, i = m.shape[0] // nblocks2, m.shape[1] // nblocks1
    blocks = m.reshape(l, nblocks2, nblocks1, i).transpose(2, 1, 0, 3)
    u, s, vt = np.linalg.svd(blocks, full_matrices=False)
    root = np.sqrt(s[..., :rank])
    u, vt = u[..., :rank] * root[..., None, :], root[..., None] * vt[..., :rank, :]
    w1 = vt.transpose(0, 2, 1, 3).reshape(nblocks1, rank * nblocks2, i)  # k j r i -> k (r j) i
    w2 = u.transpose(1, 2, 0, 3).reshape(nblocks2, l, nblocks1 * rank)  # k j l r -> j l (k r)
    return w1, w2


def multiply(x: np.ndarray, w1: np.ndarray, w2: np.ndarray) -> np.ndarray:
    """The second reference implementation of blockdiag_butterfly_multiply."""
    middle = between(x, w1, len(w2))
    return np.einsum("lsr,blr->bsl", w2, middle).reshape(len(x), -1)


def between(x: np.ndarray, w1: np.ndarray, l: int) -> np.ndarray:
    out = np.einsum("kqp,bkp->bkq", w1, x.reshape(len(x), len(w1), -1))
    return out.reshape(len(x), -1, l).transpose(0, 2, 1)  # b (r l) -> b l r


def backward(slope: np.ndarray, w1: np.ndarray, w2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """BlockdiagButterflyMultiply.backward, for the identity as x."""
    (k, q, p), (l, s, _) = w1.shape, w2.shape
    x = np.eye(k * p)
    dout = slope.reshape(len(x), s, l).transpose(2, 0, 1)  # l b s
    dw2 = dout.transpose(0, 2, 1) @ between(x, w1, l).transpose(1, 0, 2)
    dout1 = (dout @ w2).transpose(1, 2, 0).reshape(len(x), k, q).transpose(1, 0, 2)  # k b q
    dw1 = dout1.transpose(0, 2, 1) @ x.reshape(len(x), k, p).transpose(1, 0, 2)
    return dw1, dw2
