"""The supernet of parallel branches, and the search of SuperTickets in any network of the study."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import optax

from experiments.studies.widths.config import Config
from experiments.studies.widths.lab import Lab
from experiments.training import problems
from jaxticket import _tree, apply_mask, filters, structure, training
from jaxticket.methods.channels.supertickets import Epoch, begin, prune, scale_costs, search_loss, supertickets
from jaxticket.typing import Key, Params, PyTree

_SCALES = filters.match("(depthwise|layer1)/norm/scale$")  # of the channels inside a block
_RHO, _WARMUP, _DECAY = 2.5e-2, 0.1, 0.98  # strength of the penalty; part of the steps in which it rises; of averages
_PRUNED, _INTERVALS, _LOOKS = 0.5, 10, 2  # the part of the weights that goes; prunings, looks for dead channels


class SupernetLab(Lab):
    """The lab of a supernet, whose widths are the channels of each branch of each block."""

    _SIZES = (1, 3, 5)

    @functools.cached_property
    def whole(self) -> Any:
        """The widths of all branches, by blocks."""
        return ((2 * self.config.width,) * len(self._SIZES),) * self.config.blocks

    @functools.cached_property
    def groups(self) -> structure.Groups:
        """The groups of the channels of branches; the stream stays."""
        groups = self.traced(self.network(self.whole))
        return groups.only([group.name for group in groups if "/kernel" in group.name.partition("conv")[0]])

    def network(self, shape: Any) -> Any:
        """Return the network of these widths."""
        from jaxticket import models  # needs an extra, whose absence the command line reports

        images = self.dataset.train.x.shape[1:]
        sizes = {"width": 2 * self.config.width, "sizes": self._SIZES, "patch": 2, "shape": images}
        return models.supernet(blocks=self.config.blocks, hidden=shape, **sizes)

    def shape_of(self, widths: dict[str, int]) -> Any:
        """Return the network in which each branch has a width."""
        width = lambda block, size: widths[f"params/blocks/block{block}/kernel{size}/expand/conv/kernel:3"]
        blocks = range(1, self.config.blocks + 1)
        return tuple(tuple(width(block, size) for size in self._SIZES) for block in blocks)


def lab_of(config: Config, **looks: Any) -> Lab:
    """Return the lab of the network of this configuration."""
    return (SupernetLab if config.model == "supernet" else Lab)(config, **looks)


def search(lab: Lab, fraction: float, key: Key) -> tuple[dict[str, int], dict[str, Any]]:
    """Search in one training, and return the widths, and the accuracy of the ticket as it is, without training.

    Channels go until the next removal would leave less than the budget. Then those of the smallest averages of scales
    go, one after another, which is a threshold for the budget; and others come back that still fit.
    """
    model, config = lab.network(lab.whole), lab.config
    basis = problems.basis(config, lab.dataset, model)
    steps = basis.steps // config.epochs
    ramp = optax.linear_schedule(0.0, _RHO, max(1, int(_WARMUP * basis.steps)))
    recipe = dataclasses.replace(basis.recipe, loss=search_loss(basis.recipe.loss, ramp, decay=_DECAY))
    fit = training.fit(recipe, on_nan=config.on_nan)
    init, order = jax.random.split(key)
    params, state = basis.init(init)

    def trace(params: Params, state: PyTree) -> structure.Groups:
        apply = lambda v, x: model.apply(v["params"], v["state"], x, train=False, key=None)[0]
        return structure.trace(apply, {"params": params, "state": state}, lab.dataset.train.x[:1])

    def train(params: Params, search: Any, opt_state: PyTree, epoch: int) -> tuple[Params, Any, PyTree]:
        free = jax.tree.map(lambda _: None, params)
        fitted = fit(params, search, free, order, step=epoch * steps, steps=steps, opt_state=opt_state)
        return fitted.params, fitted.state, fitted.opt_state

    start = begin(params, state, scale_costs(params, trace(params, state), where=_SCALES))
    options = {
        "epochs": config.epochs,
        "interval": -(-config.epochs // _INTERVALS),
        "target": _PRUNED,
        "every": -(-config.epochs // _LOOKS),
    }
    budget, found = fraction * lab.groups.macs(), None
    for epoch in supertickets(train, params, start, trace, least=0.0, **options):
        if found is not None and epoch.groups.macs() < budget:
            break
        found = epoch._replace(search=jax.tree.map(np.asarray, epoch.search))  # the next epoch may take the arrays
    assert found is not None  # epochs are counted from 1
    kept = _within(found, budget)
    average, state = structure.shrink((found.search.average, found.search.model), kept, found.groups)
    ticket = apply_mask(average, prune(average, found.sparsity))
    state = problems.recalibration(config, basis)(ticket, state)
    accuracy = basis.evaluate(ticket, state, ("test",))["test_accuracy"]
    widths = {group.name: int(np.sum(kept.get(group.name, 1))) for group in lab.groups}  # lone channels are no group
    return widths, {"ticket_accuracy": accuracy, "ticket_sparsity": found.sparsity}


def _within(found: Epoch, budget: float) -> dict[str, np.ndarray]:
    """Return the channels of the largest averages of scales, with at most so many multiply-adds."""
    sizes = _tree.map_present(lambda cost, p: np.abs(p), found.search.costs, found.search.average)
    paths = {f"params/{name}": x for name, x in zip(_tree.leaves(_tree.names(sizes)), _tree.leaves(sizes), strict=True)}
    scores = {
        group.name: paths[member.path][np.array(member.positions)[:, 0]]
        for group in found.groups
        for member in group.members
        if paths.get(member.path) is not None
    }
    part = structure.Budget(min(1.0, budget / found.groups.macs()), found.groups.macs)
    kept = structure.choose(scores, found.groups, part, ranking="global")
    gone = [(scores[name][channel], name, channel) for name in scores for channel in np.flatnonzero(~kept[name])]
    for _, name, channel in sorted(gone, reverse=True):  # what still fits, the largest first
        kept[name][channel] = True
        kept[name][channel] = found.groups.macs(kept) <= budget
    return kept
