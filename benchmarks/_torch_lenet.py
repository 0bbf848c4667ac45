"""LeNet-300-100 in PyTorch, written for speed on CPU and trained under masks: a peer to be timed.

Run as a process of its own, with as many threads as OMP_NUM_THREADS says: python _torch_lenet.py (optim|by-hand). It
prints "ready", and for each line N on its standard input trains N tickets for an epoch each and prints the seconds.
"""

import itertools
import os
import sys
import time

import torch
from torch import nn

EXAMPLES = int(os.environ.get("EXAMPLES", "60000"))
FEATURES, WIDTHS, BATCH = 784, (300, 100, 10), 128


class Masked(nn.Module):
    """The network as a module, for autograd and torch.optim."""

    def __init__(self):
        super().__init__()
        sizes = [FEATURES, *WIDTHS]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


def optim_epoch(model, optimizer, masks, x, y):
    """Train with autograd, a fused Adam, and masks on gradients and weights."""
    weights = [layer.weight for layer in model.layers]
    order = torch.randperm(EXAMPLES)
    for start in range(0, EXAMPLES - BATCH + 1, BATCH):
        rows = order[start : start + BATCH]
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        with torch.no_grad():
            torch._foreach_mul_([w.grad for w in weights], masks)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_mul_(weights, masks)


@torch.no_grad()
def by_hand_epoch(model, optimizer, masks, x, y):
    """Train with gradients written by hand and the same fused Adam."""
    weights = [layer.weight for layer in model.layers]
    biases = [layer.bias for layer in model.layers]
    order = torch.randperm(EXAMPLES)
    for start in range(0, EXAMPLES - BATCH + 1, BATCH):
        rows = order[start : start + BATCH]
        batch, labels = x[rows], y[rows]
        h1 = torch.addmm(biases[0], batch, weights[0].t()).relu_()
        h2 = torch.addmm(biases[1], h1, weights[1].t()).relu_()
        d3 = torch.softmax(torch.addmm(biases[2], h2, weights[2].t()), 1)
        d3[torch.arange(BATCH), labels] -= 1
        d3 /= BATCH
        d2 = torch.mm(d3, weights[2]).mul_(h2 > 0)
        d1 = torch.mm(d2, weights[1]).mul_(h1 > 0)
        for weight, bias, mask, delta, inputs in zip(
            weights, biases, masks, (d1, d2, d3), (batch, h1, h2), strict=True
        ):
            weight.grad = torch.mm(delta.t(), inputs).mul_(mask)
            bias.grad = delta.sum(0)
        optimizer.step()
        torch._foreach_mul_(weights, masks)


def main():
    epoch = {"optim": optim_epoch, "by-hand": by_hand_epoch}[sys.argv[1]]
    torch.manual_seed(0)
    x, y = torch.randn(EXAMPLES, FEATURES), torch.randint(0, WIDTHS[-1], (EXAMPLES,))
    model = Masked()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.2e-3, fused=True)
    masks = [(torch.rand_like(layer.weight) < 0.1).float() for layer in model.layers]
    epoch(model, optimizer, masks, x, y)
    print("ready", flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            epoch(model, optimizer, masks, x, y)
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()
