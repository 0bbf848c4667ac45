"""The ways to find a smaller network within a budget of multiply-adds: each is an entry of `METHODS`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.studies.widths.lab import Lab
from experiments.studies.widths.supernet import search
from jaxticket.methods.channels.precrop import precrop
from jaxticket.typing import Key


class Found(NamedTuple):
    """A network that a method found.

    Attributes:
      model: the network, as `jaxticket.models.Model`; it is trained from fresh weights.
      numbers: more measurements for its record, such as what the search looked at.
    """

    model: Any
    numbers: dict[str, Any]


FindFn = Callable[
    [Lab, float, Key], Found
]  # (what all methods share, part of the multiply-adds to keep, key) -> network


def uniform(lab: Lab, fraction: float, key: Key) -> Found:
    """Return the network whose layers keep the same part of their channels."""
    del key
    return _of(lab, lab.scale({group.name: 1.0 for group in lab.groups}, fraction))


def random(lab: Lab, fraction: float, key: Key) -> Found:
    """Return a network whose layers keep parts of their channels that are drawn, and then scaled to the budget."""
    parts = np.asarray(jax.random.uniform(key, (len(lab.groups),), minval=0.3, maxval=1.0), float)
    return _of(lab, lab.scale(dict(zip((group.name for group in lab.groups), parts, strict=True)), fraction))


def crop(lab: Lab, fraction: float, key: Key) -> Found:
    """Return the network whose widths PreCrop computes from the sizes of layers."""
    del key
    return _of(lab, precrop(lab.variables, lab.groups, fraction, cost="macs"))


def draw(lab: Lab, fraction: float, key: Key) -> Found:
    """Return the network of the channels that the search of SuperTickets leaves."""
    widths, numbers = search(lab, fraction, key)
    found = _of(lab, widths)
    return found._replace(numbers={**found.numbers, **numbers})


def _of(lab: Lab, widths: dict[str, int]) -> Found:
    return Found(lab.network(lab.shape_of(widths)), {"widths": widths})


METHODS: dict[str, FindFn] = {"uniform": uniform, "random": random, "precrop": crop, "supertickets": draw}
