"""The tensors of a checkpoint of transformers, and the leaves that they hold: names, transposes and fused layers."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxticket import _tree
from jaxticket.typing import PyTree

Shape = tuple[int, ...]


class Tensor(NamedTuple):
    """A stored tensor: one leaf, or several that have the same inputs and lie side by side."""

    name: str
    leaves: tuple[str, ...]  # the paths of leaves, such as "attention/query/kernel"
    inputs: int  # the number of the leaves' first axes that are the rows of a matrix; 0 for a vector
    transposed: bool  # whether outputs come first, as in torch's linear layers

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Return the shape of the tensor for leaves of these shapes."""
        outputs = sum(self._sizes(shapes))
        if not self.inputs:
            return (outputs,)
        matrix = (math.prod(shapes[self.leaves[0]][: self.inputs]), outputs)
        return matrix[::-1] if self.transposed else matrix

    def unpack(self, x: np.ndarray, shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
        """Return the leaves of these shapes that the tensor holds."""
        matrix = x.T if self.transposed else x
        parts = np.split(matrix, np.cumsum(self._sizes(shapes))[:-1], axis=-1)
        return {path: part.reshape(shapes[path]) for path, part in zip(self.leaves, parts, strict=True)}

    def pack(self, leaves: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the tensor that holds these leaves."""
        parts = []
        for leaf in (leaves[path] for path in self.leaves):
            rows = (math.prod(leaf.shape[: self.inputs]),) if self.inputs else ()
            parts.append(leaf.reshape(*rows, math.prod(leaf.shape[self.inputs :])))
        matrix = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
        return matrix.T if self.transposed else matrix

    def _sizes(self, shapes: Mapping[str, Shape]) -> list[int]:
        """Return the number of columns of each leaf."""
        return [math.prod(shapes[path][self.inputs :]) for path in self.leaves]


def layer(name: str, *leaves: str, inputs: int = 1, transposed: bool = True) -> tuple[Tensor, ...]:
    """Return the weight and the bias of a linear layer, which several layers may be fused to."""
    weight = Tensor(f"{name}.weight", tuple(f"{leaf}/kernel" for leaf in leaves), inputs, transposed)
    return weight, Tensor(f"{name}.bias", tuple(f"{leaf}/bias" for leaf in leaves), 0, transposed=False)


def norm(name: str, leaf: str) -> tuple[Tensor, ...]:
    """Return the scales and shifts of a norm."""
    names = {"weight": "scale", "bias": "bias"}
    return tuple(Tensor(f"{name}.{there}", (f"{leaf}/{here}",), 0, transposed=False) for there, here in names.items())


def embedding(name: str, leaf: str) -> tuple[Tensor, ...]:
    """Return the rows of an embedding."""
    return (Tensor(f"{name}.weight", (f"{leaf}/embedding",), 1, transposed=False),)


def nest(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dicts of leaves by their paths.

    Examples:
      >>> nest({"norm/scale": 1, "norm/bias": 2})
      {'norm': {'scale': 1, 'bias': 2}}
    """
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        functools.reduce(lambda node, parent: node.setdefault(parent, {}), parents, tree)[name] = leaf
    return tree


def flatten(shapes: PyTree) -> dict[str, Shape]:
    """Return the shapes of leaves by their paths."""
    names, leaves = _tree.leaves(_tree.names(shapes)), _tree.leaves(shapes)
    return {name: leaf.shape for name, leaf in zip(names, leaves, strict=True)}
