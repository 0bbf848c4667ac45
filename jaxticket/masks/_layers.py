"""Layers that a mask leaves without a weight."""

import jax.numpy as jnp
import numpy as np

from jaxticket import _processes, _stacked, _tree
from jaxticket.typing import Mask, Stacked


def empty_layers(mask: Mask, stacked: Stacked | None = None) -> list[str]:
    """Return the names of leaves that keep nothing although they hold weights; of stacked leaves those of layers."""
    columns = (_tree.leaves(t) for t in (_tree.names(mask), mask))
    empty = []
    for name, m, axes in zip(*columns, _stacked.read(stacked).axes(mask), strict=True):
        if m is not None and m.size:
            within = [a for a in range(m.ndim) if a not in axes]
            alive = np.ravel(_processes.on_host(jnp.any(m, within)))
            empty += [
                label for label, lives in zip(_stacked.labels(name, m.shape, axes), alive, strict=True) if not lives
            ]
    return empty
