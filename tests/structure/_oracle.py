"""Channels set to zero, removed or exchanged by hand: what is expected of a network is checked without a trace."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from tests.structure.networks._base import Expected, Network

Chosen = Iterable[tuple[Expected, Sequence[int]]]  # channels of some groups
Axis = tuple[str, int]  # the path of a leaf, and an axis


def leaves_by_path(variables: Any) -> dict[str, np.ndarray]:
    """Return the leaves by their path names."""
    pairs = zip(_tree.leaves(_tree.names(variables)), _tree.leaves(variables), strict=True)
    return {name: np.asarray(leaf) for name, leaf in pairs if leaf is not None}


def axis_sizes(network: Network) -> dict[Axis, int]:
    """Return the sizes of all axes of the variables."""
    leaves = leaves_by_path(network.variables)
    return {(path, axis): size for path, leaf in leaves.items() for axis, size in enumerate(leaf.shape)}


def owned(network: Network, group: Expected) -> dict[Axis, np.ndarray]:
    """Return the positions of the channels along each member, [channel, positions]; columns belong together."""
    sizes, parts = axis_sizes(network), {}
    for place in group.places:
        positions = place.positions(group.width, sizes[place.path, place.axis])  # [repeats, channel, inner]
        parts.setdefault((place.path, place.axis), []).append(positions.swapaxes(0, 1).reshape(group.width, -1))
    return {axis: np.concatenate(positions, axis=1) for axis, positions in parts.items()}


def zeroed(network: Network, chosen: Chosen) -> Any:
    """Return the variables in which all members of the chosen channels are zero."""
    leaves = leaves_by_path(network.variables)
    for (path, axis), positions in _positions(network, chosen).items():
        leaves[path] = leaves[path].copy()
        np.moveaxis(leaves[path], axis, 0)[positions] = 0.0
    return _like(network.variables, leaves)


def removed(network: Network, chosen: Chosen) -> Any:
    """Return the variables without the chosen channels."""
    leaves = leaves_by_path(network.variables)
    for (path, axis), positions in _positions(network, chosen).items():
        leaves[path] = np.delete(leaves[path], positions, axis)
    return _like(network.variables, leaves)


def exchanged(network: Network, group: Expected, a: int, b: int) -> Any:
    """Return the variables in which two channels of a group have changed places, in all members at once."""
    leaves = leaves_by_path(network.variables)
    for (path, axis), positions in owned(network, group).items():
        order = np.arange(leaves[path].shape[axis])
        order[positions[a]], order[positions[b]] = positions[b], positions[a]
        leaves[path] = np.take(leaves[path], order, axis)
    return _like(network.variables, leaves)


def _positions(network: Network, chosen: Chosen) -> dict[Axis, np.ndarray]:
    parts: dict[Axis, list[np.ndarray]] = {}
    for group, channels in chosen:
        for axis, positions in owned(network, group).items():
            parts.setdefault(axis, []).append(positions[list(channels)].ravel())
    return {axis: np.concatenate(positions) for axis, positions in parts.items()}


def _like(variables: Any, leaves: dict[str, np.ndarray]) -> Any:
    return jax.tree.unflatten(jax.tree.structure(variables), [jnp.asarray(leaf) for leaf in leaves.values()])
