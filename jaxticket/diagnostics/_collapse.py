"""Layer collapse: a layer that lost all its weights cuts the network in two."""

from collections.abc import Iterable

from jaxticket._check_trees import check_mask, check_structure
from jaxticket.masks._layers import empty_layers
from jaxticket.typing import Mask, Stacked


def layer_collapse(masks: Iterable[Mask], *, stacked: Stacked | None = None) -> dict[str, int]:
    """Return the leaves that keep nothing, by path name, each with the index of the first mask in which it does.

    `masks` are those of successive levels; put one in a list to ask about it alone. Leaves that are not sparsified or
    hold no weight do not count. An empty dict is good news: no gradient passes a collapsed layer, unless a skip
    connection leads around it (Tanaka et al., "Pruning neural networks without any data by iteratively conserving
    synaptic flow", 2020).

    Args:
      masks: masks of one structure.
      stacked: {regex of a path: axes} of leaves that stack layers or experts along these axes. Each layer is then asked
        about, and has a name such as 'layers/kernel[2]'.

    Returns:
      {path name: index of the first mask in which it keeps nothing}.

    Examples:
      >>> import jax.numpy as jnp
      >>> layer_collapse([{"a": jnp.array([True, True]), "b": None}, {"a": jnp.array([False, False]), "b": None}])
      {'a': 1}
      >>> layer_collapse([{"layers": jnp.array([[True, False], [False, False]])}], stacked={"layers": 0})
      {'layers[1]': 0}
    """
    first: dict[str, int] = {}
    reference: Mask | None = None
    for level, mask in enumerate(masks):
        check_mask(f"masks[{level}]", mask)
        reference = mask if reference is None else reference
        check_structure(f"masks[{level}]", mask, "masks[0]", reference)
        for name in empty_layers(mask, stacked):
            first.setdefault(name, level)
    return first
