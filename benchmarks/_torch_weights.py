"""Weights carried between the models of jaxticket and PyTorch, by names and layouts; PyTorch is not needed here."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxticket import _tree

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
