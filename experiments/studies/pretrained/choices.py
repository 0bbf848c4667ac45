"""The ways to choose what goes: (network, part, seed) -> smaller variables, and what they cost."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from experiments.studies.pretrained.config import RECALIBRATED
from experiments.studies.pretrained.networks import Network, without_layers
from jaxticket import structure
from jaxticket.methods.channels.obspa import obspa
from jaxticket.typing import PyTree


class Smaller(NamedTuple):
    """A network from which something was physically removed.

    Attributes:
      variables: its variables.
      macs: the part of the multiply-adds that it keeps.
      params: the part of the parameters that it keeps.
    """

    variables: PyTree
    macs: float
    params: float


Scores = Callable[[structure.Groups], Mapping[str, jax.Array]]


def choose(network: Network, choice: str, part: float, seed: int) -> Smaller:
    """Remove what a choice removes."""
    if choice in ("layers", "last_layers"):
        return _without_layers(network, part, best=choice == "layers")
    if choice == RECALIBRATED and network.recalibrated:
        return Smaller(network.recalibrated(network.calibration(seed)), 1.0, 1.0)
    if choice == "obspa":
        return _repaired(network, part, seed)
    by: dict[str, Scores] = {
        "group_magnitude": lambda groups: structure.group_magnitude(network.variables, groups),
        "random": lambda groups: _drawn(groups, seed),
    }
    return _shrunk(network, network.variables, _kept(network, part, by[choice]))


def _kept(network: Network, part: float, scores: Scores) -> dict[str, np.ndarray]:
    kept: dict[str, np.ndarray] = {}
    for groups, budget in network.steps(part):
        kept |= structure.choose(scores(groups), groups, budget)
    return kept


def _drawn(groups: structure.Groups, seed: int) -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.key(seed), len(groups))
    return {g.name: jax.random.uniform(key, (g.width,)) for g, key in zip(groups, keys, strict=True)}


def _repaired(network: Network, part: float, seed: int) -> Smaller:
    variables, batches = network.variables, network.calibration(seed)
    kept: dict[str, np.ndarray] = {}
    for groups, budget in network.steps(part):
        variables, own = obspa(variables, network.apply, batches, groups, budget)
        kept |= own
    return _shrunk(network, variables, kept)


def _shrunk(network: Network, variables: PyTree, kept: Mapping[str, np.ndarray]) -> Smaller:
    groups = network.groups
    return Smaller(
        structure.shrink(variables, kept, groups),
        groups.macs(kept) / groups.macs(),
        groups.params(kept) / groups.params(),
    )


def _without_layers(network: Network, part: float, *, best: bool) -> Smaller:
    """Remove whole layers: the last ones, or those that calibration spares.

    At least one goes; otherwise no more multiply-adds go than with channels.
    """
    groups, layers = network.groups, len(network.variables["blocks"])
    gone_with_channels = groups.macs() - groups.macs(_kept(network, part, lambda own: _drawn(own, 0)))
    count = max(1, gone_with_channels * layers // groups.macs())  # all multiply-adds are in the layers
    choices = without_layers(network.variables, count)
    gone = tuple(range(layers - count + 1, layers + 1))
    if best:
        batches = network.calibration(0)
        dense = network.outputs(network.variables, batches)
        gone = max(choices, key=lambda g: network.likeness(dense, network.outputs(choices[g], batches)))
    variables = choices[gone]
    params = sum(np.size(leaf) for leaf in jax.tree.leaves(variables)) / groups.params()
    return Smaller(variables, 1 - count / layers, params)
