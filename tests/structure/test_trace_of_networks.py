"""The traced groups of every network are those that were derived by hand, down to the positions."""

import pytest

from jaxticket import structure
from tests.structure.networks._base import Expected, Network
from tests.structure.networks.table import NETWORKS


def traced(network: Network) -> list[structure.Group]:
    groups = structure.trace(network.apply, network.variables, *network.inputs, outputs=network.outputs)
    return [g for g in groups if g.width > 1]


def key(width: int, members: frozenset[tuple[str, int]]) -> tuple[int, tuple[tuple[str, int], ...]]:
    return width, tuple(sorted(members))


def pairs_of(g: structure.Group) -> frozenset[tuple[str, int]]:
    return frozenset((member.path, member.axis) for member in g.members)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_groups_are_those_derived_by_hand(network):
    groups = traced(network)
    given = sorted(key(g.width, pairs_of(g)) for g in groups)
    required = [key(g.width, g.members) for g in network.groups if g.required]
    optional = [key(g.width, g.members) for g in network.groups if not g.required]
    assert sorted(set(required) - set(given)) == [], "missing"
    assert sorted(set(given) - set(required) - set(optional)) == [], "not expected"
    assert len(given) == len(required) + sum(x in given for x in optional)
    assert not {pair for g in groups for pair in pairs_of(g)} & network.frozen


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_inexact_groups_are_flagged(network):
    def exactness(expected: Expected) -> bool | None:
        same = [
            g.inexact for g in traced(network) if key(g.width, pairs_of(g)) == key(expected.width, expected.members)
        ]
        return None if expected.exact is None or not same else same[0] is None

    for expected in network.groups:
        assert exactness(expected) in (expected.exact, None), expected
