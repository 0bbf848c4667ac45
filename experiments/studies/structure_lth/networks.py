"""The networks of tickets as they run: smaller ones, and those whose layers are dense blocks."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np

from jaxticket import execution, structure
from jaxticket.methods.channels import structure_lth
from jaxticket.typing import Mask, Params, PyTree

Network = Callable[[Params, jax.Array], jax.Array]  # (parameters, x) -> logits


def channels(mask: Mask, groups: structure.Groups) -> dict[str, np.ndarray]:
    """Return the channels of each group that a mask of output channels keeps: all of them where it says nothing.

    It is for networks in a chain, where a group is called after the layer whose outputs its channels are.
    """
    kept = {}
    for group in groups:
        layer, leaf = group.name.rpartition(":")[0].split("/")
        own = mask[layer][leaf]
        kept[group.name] = np.ones(group.width, bool) if own is None else np.asarray(own).ravel()
    return kept


def draw(kept: dict[str, np.ndarray], key: jax.Array) -> dict[str, np.ndarray]:
    """Return as many channels of each group, at random."""
    keys = jax.random.split(key, len(kept))
    return {name: np.asarray(jax.random.permutation(k, own)) for k, (name, own) in zip(keys, kept.items(), strict=True)}


def run_dense_layers(params: Params, x: jax.Array) -> jax.Array:
    """Return the logits of LeNet-300-100, whose kernels may be packed."""
    x = x.reshape(x.shape[0], -1)
    for name in params:
        x = x @ params[name]["kernel"] + params[name]["bias"][None]
        x = x if name == "output" else jax.nn.relu(x)
    return x


def pack(params: Params, mask: Mask, layers: Collection[str]) -> PyTree:
    """Return the parameters of LeNet-300-100 with some layers packed as dense blocks, for `run_dense_layers`.

    The hidden units of such a layer stand in the order of its blocks. The next layer reads no repeated one.
    """
    packed, order = dict[str, Any](), None
    for name, layer in params.items():
        kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
        keep = np.ones(kernel.shape, bool) if mask[name]["kernel"] is None else np.asarray(mask[name]["kernel"])
        if order is not None:
            real = np.zeros((len(order), 1), bool)
            real[np.unique(order, return_index=True)[1]] = True
            kernel, keep = np.where(real, kernel[order], 0), keep[order] & real
        order = None
        if name in layers:
            order, width = structure_lth.arrange(keep)
            packed_kernel = execution.pack_blocks(kernel[:, order], keep[:, order], block=(1, width))
            packed[name] = {"kernel": packed_kernel, "bias": bias[order]}
        else:
            packed[name] = {"kernel": kernel, "bias": bias}
    return packed
