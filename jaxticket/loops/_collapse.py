"""The warning of a search whose ticket lost a layer."""

import warnings

import jax
import jax.numpy as jnp

from jaxticket import _tree
from jaxticket.errors import CollapseWarning
from jaxticket.typing import Mask


def warn_of_collapse(mask: Mask) -> None:
    """Warn of leaves that keep no weight, by name; masks that are traced cannot be looked at.

    The text has no number of a level, so that Python shows it once a search.
    """
    named = zip(_tree.leaves(_tree.names(mask)), _tree.leaves(mask), strict=True)
    known = [(name, m) for name, m in named if m is not None and m.size and not isinstance(m, jax.core.Tracer)]
    lost = [name for name, m in known if not bool(jnp.any(m))]
    if lost:
        warnings.warn(
            f"layers {lost} keep no weight, so that nothing passes them; give each leaf a floor by "
            "prune=loops.prune_by(minimum=...), or let weights compete within leaves by scope=scopes.leaf().",
            CollapseWarning,
            stacklevel=3,
        )
