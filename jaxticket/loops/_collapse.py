"""The warning of a search whose ticket lost a layer."""

import warnings

import jax

from jaxticket import _tree
from jaxticket.errors import CollapseWarning
from jaxticket.masks._layers import empty_layers
from jaxticket.typing import Mask, Stacked


def warn_of_collapse(mask: Mask, stacked: Stacked | None = None) -> None:
    """Warn of leaves, and of layers of stacked leaves, that keep no weight; traced masks cannot be looked at.

    The text has no number of a level, so that Python shows it once a search.
    """
    known = _tree.map_present(lambda m: None if isinstance(m, jax.core.Tracer) else m, mask)
    lost = empty_layers(known, stacked)
    if lost:
        warnings.warn(
            f"layers {lost} keep no weight, so that nothing passes them; give each leaf a floor by "
            "prune=loops.prune_by(minimum=...), or let weights compete within leaves by scope=scopes.leaf().",
            CollapseWarning,
            stacklevel=3,
        )
