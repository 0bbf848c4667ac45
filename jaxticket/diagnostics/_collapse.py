"""Layer collapse: a layer that lost all its weights cuts the network in two."""

from collections.abc import Iterable

import jax.numpy as jnp

from jaxticket import _tree
from jaxticket._check_trees import check_mask, check_structure
from jaxticket.typing import Mask


def layer_collapse(masks: Iterable[Mask]) -> dict[str, int]:
    """Return the leaves that keep nothing, by path name, each with the index of the first mask in which it does.

    `masks` are those of successive levels; put one in a list to ask about it alone. Leaves that are not sparsified or
    hold no weight do not count. An empty dict is good news: no gradient passes a collapsed layer, unless a skip
    connection leads around it (Tanaka et al., "Pruning neural networks without any data by iteratively conserving
    synaptic flow", 2020).

    Examples:
      >>> layer_collapse([{"a": jnp.array([True, True]), "b": None}, {"a": jnp.array([False, False]), "b": None}])
      {'a': 1}
    """
    first: dict[str, int] = {}
    reference: Mask | None = None
    for level, mask in enumerate(masks):
        check_mask(f"masks[{level}]", mask)
        reference = mask if reference is None else reference
        check_structure(f"masks[{level}]", mask, "masks[0]", reference)
        for name, leaf in zip(_tree.leaves(_tree.names(mask)), _tree.leaves(mask), strict=True):
            if leaf is not None and leaf.size and not jnp.any(leaf):
                first.setdefault(name, level)
    return first
