"""Iterative SNIP: in rounds, keep the survivors whose saliency is largest; what is pruned stays so."""

from tests.reference.network import Network, full, keep, record
from tests.reference.published import force

ABOUT = force.ABOUT


def rounds(density: float) -> list[dict]:
    network, mask, seen = Network(), full(), []
    for i in range(force.ROUNDS):
        masked = {name: w * mask[name] for name, w in network.weights.items()}
        saliency = force.saliency_of(network, mask, i, masked)
        mask = keep(saliency, force.count(density, i), mask)
        seen.append(record(i, mask, saliency))
    return seen
