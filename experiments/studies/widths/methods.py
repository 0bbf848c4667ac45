"""The ways to find a smaller network within a budget of multiply-adds: each is an entry of `METHODS`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import jaxticket as jt
from experiments.studies.widths import supernet
from experiments.studies.widths.lab import Lab, Shape
from jaxticket import scopes, scores
from jaxticket.methods.channels.precrop import precrop, precrop_densities
from jaxticket.typing import Key


class Smaller(NamedTuple):
    """A network within the budget.

    Attributes:
      model: the network, as `jaxticket.models.Model`; it is trained from fresh weights.
      numbers: more measurements for its record, such as what the search looked at.
    """

    model: Any
    numbers: dict[str, Any]


FindFn = Callable[[Lab, float, Key], Smaller]  # (lab, part of the multiply-adds to keep, key) -> network


def uniform(lab: Lab, fraction: float, key: Key) -> Smaller:
    """Return the network whose layers keep the same part of their channels."""
    del key
    return _of(lab, lab.scale({group.name: 1.0 for group in lab.groups}, fraction))


def random(lab: Lab, fraction: float, key: Key) -> Smaller:
    """Return a network whose layers keep parts of their channels that are drawn, and then scaled to the budget."""
    parts = np.asarray(jax.random.uniform(key, (len(lab.groups),), minval=0.3, maxval=1.0), float)
    return _of(lab, lab.scale(dict(zip((group.name for group in lab.groups), parts, strict=True)), fraction))


def crop(lab: Lab, fraction: float, key: Key) -> Smaller:
    """Return the network whose widths PreCrop computes from the sizes of layers."""
    del key
    return _of(lab, precrop(lab.variables, lab.groups, fraction, cost="macs"))


def crop_by_synflow(lab: Lab, fraction: float, key: Key) -> Smaller:
    """Return the network of PreCrop's first version, by the densities at which SynFlow leaves layers."""
    model = lab.network(lab.whole)
    params, state = model.init(key)
    apply = lambda params, x: model.apply(params, state, x, train=False, key=None)[0]
    score = scores.synflow(apply, lab.dataset.train.x[:1])
    tx = jt.sparsify(optax.identity(), jt.static(fraction, score=score, scope=scopes.tree(), rounds=100))
    mask = {"params": jt.mask_of(jt.init(tx, params)[1]), "state": jax.tree.map(lambda _: None, state)}
    return _of(lab, precrop_densities(lab.variables, lab.groups, fraction, mask, cost="macs"))


def search_shapes(lab: Lab, fraction: float, key: Key) -> Smaller:
    """Return the network whose widths and depths TAS searches, on halves of the training examples."""
    outcome = lab.searches(fraction)(key)
    widths, blocks = outcome.widths, lab.config.blocks
    pairs = list(zip(widths[1::2], widths[2::2], strict=True))
    stages = tuple(tuple(pairs[blocks * at :][:depth]) for at, depth in enumerate(outcome.depths))
    numbers = {"widths": widths, "depths": outcome.depths, "likeliest": outcome.likeliest / lab.groups.macs()}
    return Smaller(lab.network(Shape(widths[0], stages)), numbers)


def draw_ticket(lab: Lab, fraction: float, key: Key) -> Smaller:
    """Return the network of the channels that the search of SuperTickets leaves."""
    widths, numbers = supernet.search(lab, fraction, key)
    smaller = _of(lab, widths)
    return smaller._replace(numbers={**smaller.numbers, **numbers})


def _of(lab: Lab, widths: dict[str, int]) -> Smaller:
    return Smaller(lab.network(lab.shape_of(widths)), {"widths": list(widths.values())})


METHODS: dict[str, FindFn] = {
    "uniform": uniform,
    "random": random,
    "precrop": crop,
    "precrop_synflow": crop_by_synflow,
    "tas": search_shapes,
    "supertickets": draw_ticket,
}
