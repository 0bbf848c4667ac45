"""Graphs in layers, and the masks that they make."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxticket as jt
from jaxticket import models
from jaxticket.errors import InputError
from jaxticket.methods.recurrent.random_structure import layer_graph, structure_mask


def test_a_path_has_a_node_in_each_layer():
    graph = layer_graph([(2, 1), (0, 1), (3, 2)])
    assert graph.layers == ((0,), (1,), (2,), (3,))
    assert graph.skips == ()


def test_an_edge_over_a_layer_is_a_skip():
    graph = layer_graph([(0, 1), (0, 2), (1, 2)])
    assert (graph.layers, graph.skips) == (((0,), (1,), (2,)), ((1, 3),))


def test_every_edge_leads_forward():
    edges = np.random.default_rng(0).integers(0, 30, (80, 2))
    graph = layer_graph([edge for edge in edges if edge[0] != edge[1]])
    layer = {node: index for index, nodes in enumerate(graph.layers) for node in nodes}
    assert all(layer[low] < layer[high] for low, high in graph.edges)
    before = {high: max(layer[low] for low, to in graph.edges if to == high) for _, high in graph.edges}
    assert all(layer[node] == at + 1 for node, at in before.items())  # no later than it must


def test_edges_are_counted_once_in_either_direction():
    assert layer_graph([(0, 1), (1, 0), (0, 1)]).edges == ((0, 1),)


def test_all_gates_of_a_unit_have_the_same_inputs():
    graph = layer_graph([(0, 2), (1, 3)])
    params, _ = models.recurrent(cell="gru", widths=graph.widths).init(jax.random.key(0))
    mask = structure_mask(graph, params)["layer2"]["input"]["kernel"]
    whole = jnp.broadcast_to(mask, params["layer2"]["input"]["kernel"].shape)
    rows = whole.transpose(1, 2, 0).reshape(-1, 2)  # as torch has them: blocks of rows by gate
    np.testing.assert_array_equal(rows, np.tile(np.eye(2), (3, 1)))


def test_a_unit_without_an_edge_does_not_see_another():
    graph = layer_graph([(0, 3), (1, 4), (2, 4), (3, 5), (0, 5)])
    model = models.recurrent(cell="lstm", widths=graph.widths, skips=graph.skips)
    params, _ = model.init(jax.random.key(0))
    mask = structure_mask(graph, params)
    assert mask["layer1"]["input"]["kernel"] is None
    assert mask["skip1_3"]["recurrent"]["kernel"] is None
    masked = jt.apply_mask(params, mask)
    np.testing.assert_array_equal(masked["skip1_3"]["input"]["kernel"][1:], 0)
    assert (masked["skip1_3"]["input"]["kernel"][0] != 0).all()


@pytest.mark.parametrize("edges", [[], [(1, 1)], [(0, 1, 2)], [("a", "b")], [(0.0, 1.0)]])
def test_bad_edges(edges):
    with pytest.raises(InputError, match="edges"):
        layer_graph(edges)


def test_parameters_of_another_network():
    graph = layer_graph([(0, 1), (0, 2), (1, 2)])
    params, _ = models.recurrent(cell="tanh", widths=graph.widths).init(jax.random.key(0))
    with pytest.raises(InputError, match="skip1_3/input/kernel"):
        structure_mask(graph, params)
