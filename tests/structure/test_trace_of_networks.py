"""The traced groups of every network are those that were derived by hand, down to the positions."""

import pytest

from jaxticket import structure
from jaxticket.structure import _elementwise, _walk
from tests.structure._oracle import Axis, owned
from tests.structure.networks._base import Expected, Network
from tests.structure.networks.table import NETWORKS

Channel = frozenset[tuple[Axis, tuple[int, ...]]]  # what a channel owns along each member


def channels_derived(network: Network, expected: Expected) -> frozenset[Channel]:
    """Return what each channel of an expected group owns."""
    members = owned(network, expected).items()
    return frozenset(
        frozenset((axis, tuple(sorted(positions[c].tolist()))) for axis, positions in members)
        for c in range(expected.width)
    )


def channels_traced(group: structure.Group) -> frozenset[Channel]:
    """Return what each channel of a traced group owns."""
    return frozenset(
        frozenset(((member.path, member.axis), tuple(sorted(member.positions[c]))) for member in group.members)
        for c in range(group.width)
    )


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_groups_are_those_derived_by_hand(network):
    groups = structure.trace(network.apply, network.variables, *network.inputs, outputs=network.outputs)
    traced = {channels_traced(group): group for group in groups if group.width > 1}
    derived = {channels_derived(network, expected): expected for expected in network.groups}
    assert [group for channels, group in traced.items() if channels not in derived] == [], "not derived by hand"
    missing = [expected for channels, expected in derived.items() if channels not in traced]
    assert [expected for expected in missing if expected.required] == []
    for channels, group in traced.items():
        if derived[channels].exact is not None:
            assert (group.inexact is None) == derived[channels].exact, group


def _zip_naively(context, eqn, values):
    """Join the first entries of all operands too, as a zip over labels does."""
    for axis in range(len(eqn.outvars[0].aval.shape)):
        labels = [v.labels[axis] for v in values if v.labels]
        for other in labels[1:]:
            shared = min(len(labels[0]), len(other))
            context.atoms.join(labels[0][:shared], other[:shared])
    return _elementwise.elementwise(context, eqn, values)


@pytest.mark.parametrize(
    "name",
    ["mask_of_one_channel", "scalars_and_columns", "gate_of_one_unit", "map_of_one_channel", "outer_sum"],
)
def test_a_zip_over_axes_of_size_one_gives_other_groups(name, monkeypatch):
    for primitive in _elementwise.NAMES:
        monkeypatch.setitem(_walk._RULES, primitive, _zip_naively)
    (network,) = (network for network in NETWORKS if network.name == name)
    with pytest.raises(AssertionError):
        test_groups_are_those_derived_by_hand(network)
