"""SuperTickets in the study of widths: the supernet's own widths, and channels that meet the budget."""

import jax
import numpy as np
import pytest

from experiments.studies.widths import supernet
from experiments.studies.widths.config import Config
from experiments.studies.widths.lab import Lab
from experiments.studies.widths.methods import METHODS
from jaxticket.methods.channels.supertickets import Epoch, begin, scale_costs
from tests.cheap import cheap  # noqa: F401  # by every test

METHODS_OF_BOTH = ("uniform", "random", "precrop", "supertickets")
LIMITED = {"model": "supernet", "methods": METHODS_OF_BOTH, "blocks": 2, "epochs": 2, "limit": 300}


@pytest.fixture
def lab(tmp_path):
    return supernet.lab_of(Config(out=tmp_path, **LIMITED))


def searched(lab, seed=0):
    """A search after an epoch, whose scales are drawn."""
    model = lab.network(lab.whole)
    params, state = model.init(jax.random.key(seed))
    groups = lab.traced(model)
    search = begin(params, state, scale_costs(params, groups, where=supernet._SCALES))
    draw = np.random.default_rng(seed)
    average = jax.tree.map(lambda p: draw.normal(size=p.shape), params)
    return Epoch(params, search._replace(average=average), None, search.mask, 0.1, groups)


def test_the_network_of_the_configuration_has_its_lab(tmp_path, lab):
    assert type(supernet.lab_of(Config(out=tmp_path))) is Lab
    assert lab.whole == ((16,) * 3,) * 2
    assert lab.groups.widths() == [16] * 6
    widths = {group.name: n for n, group in enumerate(lab.groups, start=1)}
    assert sorted(sum(lab.shape_of(widths), ())) == [1, 2, 3, 4, 5, 6]
    smaller = lab.traced(lab.network(lab.shape_of(widths)))
    assert smaller.macs() == lab.groups.macs(lab._kept(widths))


@pytest.mark.parametrize("method", ["uniform", "random"])
def test_controls_meet_the_budget(lab, method):
    found = METHODS[method](lab, 0.5, jax.random.key(1))
    assert 0.98 <= lab.traced(found.model).macs() / (0.5 * lab.groups.macs()) <= 1
    widths = found.numbers["widths"]
    assert (max(widths) - min(widths) <= 1) == (method == "uniform")


@pytest.mark.parametrize("model", ["supernet", "slim_resnet"])
def test_the_channels_of_the_largest_scales_meet_the_budget(tmp_path, model):
    lab = supernet.lab_of(Config(out=tmp_path, **{**LIMITED, "model": model}))
    found = searched(lab)
    kept = supernet._within(found, 0.5 * lab.groups.macs())
    assert 0.98 <= found.groups.macs(kept) / (0.5 * lab.groups.macs()) <= 1
    if model == "supernet":
        block = found.search.average["blocks"]
        sizes = {
            (b, k): np.abs(np.asarray(block[b][k]["depthwise"]["norm"]["scale"]))
            for b in block
            for k in block[b]
            if k != "norm"
        }
        stay = {key: kept[f"params/blocks/{key[0]}/{key[1]}/expand/conv/kernel:3"] for key in sizes}
        gone = np.concatenate([sizes[key][~stay[key]] for key in sizes])
        left = np.concatenate([sizes[key][stay[key]] for key in sizes])
        assert (left < gone.max()).sum() <= 2, "all but those that still fit"


@pytest.mark.slow
def test_a_search_finds_a_network_within_the_budget(lab):
    found = METHODS["supertickets"](lab, 0.5, jax.random.key(2))
    assert 0.98 <= lab.traced(found.model).macs() / (0.5 * lab.groups.macs()) <= 1
    assert found.numbers["ticket_sparsity"] == 0.2
    assert 0 <= found.numbers["ticket_accuracy"] <= 1
