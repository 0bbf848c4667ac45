"""Weights and masks carried between the models of jaxticket and PyTorch, by names and layouts, without PyTorch."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxticket import _tree
from jaxticket.structure import Groups

LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def torch_name(path: str) -> str:
    """Return PyTorch's name of a leaf of {"params": …, "state": …}: stem.conv.weight of params/stem/conv/kernel."""
    *layer, leaf = path.split("/")[1:]
    return ".".join([*layer, LEAVES.get(leaf, leaf)])


def to_torch(variables: Any) -> dict[str, np.ndarray]:
    """Return the arrays of {"params": …, "state": …} by PyTorch's names, in its layout: outputs first, then inputs."""
    paths = _tree.leaves(_tree.names(variables))
    leaves = zip(paths, _tree.leaves(variables), strict=True)
    return {torch_name(path): _to_torch(path, np.asarray(x)) for path, x in leaves if x is not None}


def from_torch(arrays: Mapping[str, np.ndarray], like: Any) -> Any:
    """Return the variables of PyTorch's arrays, which may be narrower than `like`; its kernels have at least 2 axes."""

    def leaf(path: str, x: Any) -> np.ndarray:
        array = arrays[torch_name(path)]
        kernel = path.endswith("/kernel")
        return np.ascontiguousarray(np.transpose(array, {2: (1, 0), 4: (2, 3, 1, 0)}[x.ndim]) if kernel else array)

    return jax.tree.map(leaf, _tree.names(like), like)


def _to_torch(path: str, x: np.ndarray) -> np.ndarray:
    if path.endswith(("query/kernel", "key/kernel", "value/kernel")):  # heads and their channels are one axis there
        x = x.reshape(len(x), -1)
    elif path.endswith("out/kernel"):
        x = x.reshape(-1, x.shape[-1])
    elif path.endswith("bias"):
        x = x.reshape(-1)
    if path.endswith("/kernel"):
        x = np.transpose(x, {2: (1, 0), 4: (3, 2, 0, 1)}[x.ndim])
    return np.ascontiguousarray(x)


def channels_first(x: np.ndarray) -> np.ndarray:
    """Return images in PyTorch's layout; other inputs as they are."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x


def kept_channels(dropped: Mapping[str, Sequence[int]], groups: Groups) -> dict[str, np.ndarray]:
    """Return the mask of channels that PyTorch's layers make, each of which dropped these outputs.

    Raises RuntimeError where layers of a group dropped different channels.
    """
    kernels = {leaf.path: len(leaf.shape) for leaf in groups.leaves if leaf.path.endswith("/kernel")}
    kept = {}
    for group in groups:
        masks = [
            ~np.isin(np.array(m.positions), dropped.get(torch_name(m.path).removesuffix(".weight"), [])).all(axis=1)
            for m in group.members
            if m.axis == kernels.get(m.path, 0) - 1
        ]
        if any((mask != masks[0]).any() for mask in masks):
            raise RuntimeError(f"{group.name}: its layers dropped different channels")
        kept[group.name] = masks[0]
    return kept
