"""Recurrent networks whose layers are connected like a random graph (Darji, 2021).

A node of an undirected graph is a unit. Edges lead from the lower to the higher node. The layer of a node is the length
of the longest path that ends in it, so that no edge stays within a layer. Edges to the next layer are the mask of its
weights from input to hidden units; those that lead over a layer are the mask of a recurrent layer of its own.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np

from jaxticket.errors import InputError
from jaxticket.typing import Mask, Params

__all__ = ["Layered", "layer_graph", "structure_mask"]


class Layered(NamedTuple):
    """A graph in layers.

    Attributes:
      layers: the nodes of each layer, in rising order.
      edges: pairs (lower node, higher node), in rising order.
    """

    layers: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[int, int], ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of nodes of each layer."""
        return tuple(map(len, self.layers))

    @property
    def skips(self) -> tuple[tuple[int, int], ...]:
        """The pairs (source, target) of layers, counted from 1, which edges connect over others."""
        layer = {node: index for index, nodes in enumerate(self.layers, start=1) for node in nodes}
        pairs = {(layer[low], layer[high]) for low, high in self.edges}
        return tuple(sorted((source, target) for source, target in pairs if target - source > 1))


def layer_graph(edges: Iterable[tuple[int, int]]) -> Layered:
    """Return an undirected graph in layers: each node behind all lower nodes to which it is connected.

    Args:
      edges: pairs of nodes, as networkx's `graph.edges` has them; nodes are integers. A node without edges has no
        layer.

    Returns:
      The layers and the directed edges. Give `widths` and `skips` to `models.recurrent`.

    Raises:
      InputError: no edges, an edge from a node to itself, or nodes that are not integers.

    References:
      Darji, "Investigating Sparsity in Recurrent Neural Networks" (2021), arXiv 2407.20601.

    Examples:
      >>> graph = layer_graph([(0, 1), (0, 2), (1, 2)])
      >>> graph.layers, graph.widths, graph.skips
      (((0,), (1,), (2,)), (1, 1, 1), ((1, 3),))
    """
    pairs = [tuple(edge) for edge in edges]
    for edge in pairs:
        if len(edge) != 2 or edge[0] == edge[1] or not all(isinstance(node, (int, np.integer)) for node in edge):
            raise InputError(f"edges: {edge!r} is not a pair of different integers")
    directed = sorted({(int(min(edge)), int(max(edge))) for edge in pairs})
    if not directed:
        raise InputError("edges is empty; give one pair of nodes or more")
    depth = dict.fromkeys(sorted({node for edge in directed for node in edge}), 0)
    for low, high in directed:  # the depth of `low` is final: its lower neighbours come before it
        depth[high] = max(depth[high], depth[low] + 1)
    layers = [tuple(n for n in depth if depth[n] == index) for index in range(max(depth.values()) + 1)]
    return Layered(tuple(layers), tuple(directed))


def structure_mask(graph: Layered, params: Params) -> Mask:
    """Return the mask of a recurrent network that is connected like a graph.

    Weights from the embedding, from hidden to hidden units and to the output stay dense, as the author has them. All
    gates of a unit have the same inputs. (The author repeats the rows of a mask by gate, while the gates are blocks of
    rows, so that units with several gates read others than the graph says.)

    Args:
      graph: the result of `layer_graph`.
      params: those of `models.recurrent(widths=graph.widths, skips=graph.skips)`: layers are named layer1, …, and
        skip1_3, and their leaves input/kernel are (inputs, gates, units).

    Returns:
      A pytree as `params`: bool (inputs, 1, units) for the masked leaves, None for others.

    Raises:
      InputError: parameters of another network.

    References:
      Darji, "Investigating Sparsity in Recurrent Neural Networks" (2021), arXiv 2407.20601.

    Examples:
      >>> import jax.numpy as jnp
      >>> graph = layer_graph([(0, 2), (1, 3)])
      >>> layer = {"input": {"kernel": jnp.ones((2, 3, 2))}}
      >>> structure_mask(graph, {"layer1": layer, "layer2": layer})["layer2"]["input"]["kernel"][:, 0].astype(int)
      Array([[1, 0],
             [0, 1]], dtype=int32)
    """
    mask = jax.tree.map(lambda _: None, params)
    connected = set(graph.edges)
    pairs = [(index, index + 1) for index in range(1, len(graph.layers))]
    names = [f"layer{target}" for _, target in pairs] + [f"skip{source}_{target}" for source, target in graph.skips]
    for name, (source, target) in zip(names, [*pairs, *graph.skips], strict=True):
        sources, targets = graph.layers[source - 1], graph.layers[target - 1]
        shape = np.shape(params.get(name, {}).get("input", {}).get("kernel"))
        if shape[:1] + shape[2:] != (len(sources), len(targets)):
            raise InputError(
                f"params: {name}/input/kernel has the shape {shape}, not ({len(sources)}, gates, {len(targets)}); "
                "build the network with the widths and skips of the graph"
            )
        links = np.array([[(low, high) in connected for high in targets] for low in sources])
        mask[name]["input"]["kernel"] = jax.numpy.asarray(links[:, None])
    return mask
