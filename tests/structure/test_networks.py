"""The answers in the table of networks are right: checked by hand-made removal and by symmetry, without a trace.

The table changes rarely, so what needs several compilations a network is for `make slow`.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from tests.structure._oracle import axis_sizes, exchanged, owned, removed, zeroed
from tests.structure.networks._base import Expected, Network, group
from tests.structure.networks.axes import MIXED
from tests.structure.networks.table import NETWORKS

every_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)


_COMPILED: dict[str, Callable[..., Any]] = {}  # by name: leaves make networks unhashable


def result(network: Network, variables: Any) -> list[np.ndarray]:
    """Return the outputs that keep their shape, as arrays."""
    select = network.outputs or (lambda outputs: outputs)
    compiled = _COMPILED.setdefault(network.name, jax.jit(lambda v, *inputs: select(network.apply(v, *inputs))))
    return [np.asarray(x) for x in jax.tree.leaves(compiled(variables, *network.inputs))]


def difference(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Return the largest difference, relative to the largest value."""
    assert [x.shape for x in a] == [x.shape for x in b]
    return max(np.max(np.abs(x - y)) / max(np.max(np.abs(x)), 1e-3) for x, y in zip(a, b, strict=True))


def some_of(groups: list[Expected], seed: int) -> list[tuple[Expected, np.ndarray]]:
    """Return random channels of each group, at least one and not all."""
    rng = np.random.default_rng(seed)
    return [(g, rng.choice(g.width, rng.integers(1, g.width), replace=False)) for g in groups]


def test_names_are_unique():
    assert len({network.name for network in NETWORKS}) == len(NETWORKS)


@every_network
def test_answers_are_complete(network):
    """Each axis of more than one position is a member or frozen, and no position has two owners."""
    sizes = axis_sizes(network)
    members = {axis for expected in network.groups for axis in expected.members}
    assert not members & network.frozen
    assert members | network.frozen == {axis for axis, size in sizes.items() if size > 1}
    for axis in members:
        positions = [owned(network, g)[axis].ravel() for g in network.groups if axis in g.members]
        together = np.concatenate(positions)
        assert len(set(together)) == len(together)
        assert together.max() < sizes[axis]
    assert all(expected.width > 1 for expected in network.groups)


@pytest.mark.slow
@every_network
def test_networks_run(network):
    for x in result(network, network.variables):
        assert np.isfinite(x).all()
        assert np.ptp(x) > 0


@pytest.mark.slow
@every_network
def test_exchanged_channels_change_nothing(network):
    """Two channels that change places in all members give the same outputs: no member is missing."""
    expected = result(network, network.variables)
    for g in network.groups:
        if g.symmetric:
            assert difference(expected, result(network, exchanged(network, g, 0, g.width - 1))) < 1e-5, g


@pytest.mark.slow
@pytest.mark.parametrize("network", [x for x in NETWORKS if x.polymorphic], ids=lambda network: network.name)
def test_removed_equals_zeroed(network):
    exact = [g for g in network.groups if g.exact is not False]
    for chosen in (some_of(exact, seed=0), some_of(exact, seed=1)):
        assert difference(result(network, zeroed(network, chosen)), result(network, removed(network, chosen))) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [x for x in NETWORKS if x.polymorphic and any(g.exact is False for g in x.groups)],
    ids=lambda network: network.name,
)
def test_inexact_groups_differ_once_removed(network):
    for chosen in some_of([g for g in network.groups if g.exact is False], seed=0):
        masked, shrunk = (result(network, f(network, [chosen])) for f in (zeroed, removed))
        assert difference(masked, shrunk) > 1e-3


@pytest.mark.parametrize("network", MIXED, ids=lambda network: network.name)
def test_mixed_channels_are_not_removable(network):
    """A primitive that mixes channels, or whose program holds their number, gives another output without some."""
    mixed = group(6, "fc1/kernel:1 fc1/bias:0 fc2/kernel:0")
    masked = result(network, zeroed(network, [(mixed, [1, 4])]))
    try:
        shrunk = result(network, removed(network, [(mixed, [1, 4])]))
    except (TypeError, ValueError):
        return
    assert difference(masked, shrunk) > 1e-3
