"""SuperTickets: scales under a penalty by their costs, and masks of the largest stored weights, in one training."""

import numpy as np

from tests.reference.network import SHAPES, Network, full, keep

# The branches of a block: the multiply-adds and the hidden channels of each, and where the task pulls their scales.
MACS, GOALS = {"a": 400, "b": 600}, {"a": [1.0, 0.0005, 0.3, 0.001], "b": [0.002, 0.6]}
ABOUT = {
    "paper": "You et al., 2022",
    "repository": "RICE-EIC/SuperTickets",
    "commit": "36d7edd",
    "settings": {
        "epochs": 8,
        "interval": 2,
        "target": 0.15,
        "steps": 14,
        "rate": 0.5,
        "rho": 0.02,
        "warmup": 4,
        "decay": 0.8,
        "threshold": 0.004,
    },
    "deviations": [
        "The share of the weights that is dropped is rounded, where int() of a product just below a whole number is one"
        " less.",
        "The normaliser has no 1e-5 beside the number of channels.",
        "The average takes in the weights before a step, so that it is one step behind.",
        "A branch whose scales are all dead keeps the largest.",
    ],
}


def penalties() -> dict:
    """get_bn_to_prune with expansion_only: multiply-adds a channel, over their mean over channels."""
    pairs = {name: (len(goal), MACS[name] / len(goal)) for name, goal in GOALS.items()}
    normalizer = sum(numel * val for numel, val in pairs.values()) / sum(numel for numel, _ in pairs.values())
    return {name: val / normalizer for name, (_, val) in pairs.items()}


def token_penalty(flops: float, initial: int, channels: int, normalizer: float) -> float:
    """PruneInfoTransformer.update_penalty."""
    avg_flop = (flops - 2 * (initial**2) * 64) / initial
    uniq_flop = 2 * (channels**2 - max(channels - 1, 0) ** 2) * 64
    return (avg_flop + uniq_flop) / normalizer


def linear_fun(i: int, rho: float, warmup: int) -> float:
    """get_rho_scheduler, stepwise and without free epochs; `warmup` in steps."""
    return rho if i >= warmup else i / warmup * rho


def alive(weights: np.ndarray, average: np.ndarray, threshold: float, ema_only: bool) -> np.ndarray:
    """shrink_model, of one depthwise norm."""
    mask, mask_ema = np.abs(weights) > threshold, np.abs(average) > threshold
    mask = mask_ema if ema_only else mask | mask_ema
    return mask if mask.any() else np.arange(len(mask)) == np.argmax(np.abs(average))


def rounds(
    epochs: int,
    interval: int,
    target: float,
    steps: int,
    rate: float,
    rho: float,
    warmup: int,
    decay: float,
    threshold: float,
) -> list[dict]:
    """Return masks, stored weights and scales after each epoch of plain gradient descent."""
    network, costs, mask, seen = Network(), penalties(), full(), []
    weights = {name: w.copy() for name, w in network.weights.items()}
    scales = {name: np.ones(len(goal)) for name, goal in GOALS.items()}
    averages = {name: s.copy() for name, s in scales.items()}
    for epoch in range(epochs):
        for step in range(epoch * steps, (epoch + 1) * steps):
            momentum = min(decay, (1.0 + step) / (10.0 + step))
            averages = {name: momentum * a + (1 - momentum) * scales[name] for name, a in averages.items()}
            masked = {name: w * mask[name] for name, w in weights.items()}
            slopes = network.gradient(masked, network.batches[step % len(network.batches)])
            weights = {name: w - rate * mask[name] * slopes[name] for name, w in weights.items()}
            now = linear_fun(step, rho, warmup * steps)
            slopes = {name: s - GOALS[name] + now * costs[name] * np.sign(s) for name, s in scales.items()}
            scales = {name: s - rate * slopes[name] for name, s in scales.items()}
        if (epoch + 1) % interval == 0:
            ratio = min((epoch + 1) // interval / 10, target)
            size = sum(w.size for w in weights.values())
            mask = keep({name: np.abs(w) for name, w in weights.items()}, size - round(ratio * size))
        last = epoch == epochs - 1
        living = {name: alive(s, averages[name], threshold, last) for name, s in scales.items()}
        seen.append(
            {
                "mask": {name: mask[name] for name in SHAPES},
                "living": {name: int(mask[name].sum()) for name in SHAPES},
                "weights": weights,
                "scales": scales,
                "averages": averages,
                "alive": living,
            }
        )
    return seen
