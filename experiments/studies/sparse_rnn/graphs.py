"""Random graphs, and properties of a graph that may go with the accuracy of a network."""

import statistics
from typing import Any

from experiments.studies.sparse_rnn.config import Family
from jaxticket.errors import MissingExtraError

PROPERTIES = (
    "layers",
    "nodes",
    "edges",
    "source_nodes",
    "sink_nodes",
    "diameter",
    "density",
    "average_shortest_path",
    *(
        f"{name}_{moment}"
        for name in ("eccentricity", "degree", "closeness", "nodes_betweenness", "edges_betweenness")
        for moment in ("mean", "variance")
    ),
)


def draw(family: Family, nodes: int, seed: int) -> Any:
    """Draw a graph as Darji (2024) does: Watts–Strogatz, all edges rewired, or Barabási–Albert.

    Raises MissingExtraError if networkx is absent.
    """
    networkx = _networkx()
    if family == "watts_strogatz":
        return networkx.connected_watts_strogatz_graph(nodes, nodes // 5, 1, 10, seed=seed)
    return networkx.barabasi_albert_graph(nodes, nodes // 10, seed=seed)


def measure(graph: Any, widths: tuple[int, ...]) -> dict[str, float]:
    """Return the properties of a graph whose layers have these widths."""
    networkx = _networkx()
    nodes, eccentricity = len(graph.nodes), networkx.eccentricity(graph)
    by_node = {
        "eccentricity": eccentricity,
        "degree": networkx.degree_centrality(graph),
        "closeness": networkx.closeness_centrality(graph),
        "nodes_betweenness": networkx.betweenness_centrality(graph),
        "edges_betweenness": networkx.edge_betweenness_centrality(graph),
    }
    values = {
        "layers": len(widths),
        "nodes": nodes,
        "edges": len(graph.edges),
        "source_nodes": widths[0],
        "sink_nodes": widths[-1],
        "diameter": networkx.diameter(graph, eccentricity),
        "density": len(graph.edges) / (nodes * (nodes - 1)),
        "average_shortest_path": networkx.average_shortest_path_length(graph),
    }
    for name, own in by_node.items():
        values[f"{name}_mean"] = statistics.mean(own.values())
        values[f"{name}_variance"] = statistics.variance(own.values())
    return {name: float(values[name]) for name in PROPERTIES}


def _networkx() -> Any:
    try:
        import networkx
    except ImportError as error:
        raise MissingExtraError("networkx", "graphs") from error
    return networkx
