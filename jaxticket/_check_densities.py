"""Checks of densities, those of layers and of levels included, before anything is computed from them."""

import itertools
import numbers
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from jaxticket import _tree
from jaxticket._check_trees import check_structure
from jaxticket._checks import check_array, check_fraction
from jaxticket.errors import InputError
from jaxticket.typing import Density, Mask


def check_fractions(name: str, value: Any) -> None:
    """Raise InputError, naming the argument, for a value that is neither a number in [0, 1] nor an array of them."""
    if np.ndim(value) == 0:
        return check_fraction(name, value)
    check_array(name, value)
    if not isinstance(value, jax.core.Tracer) and not np.all((np.asarray(value) >= 0) & (np.asarray(value) <= 1)):
        raise InputError(f"{name} has values outside [0, 1]; pass densities between 0 and 1.")


def check_densities(densities: Sequence[Density], mask: Mask) -> None:
    """Raise InputError unless these are densities, by leaf of the mask or for all leaves, that never increase."""
    if not len(densities):
        raise InputError("densities is empty; pass at least one, such as schedules.levels(18)")
    for density in densities:
        if not isinstance(density, numbers.Real | str):
            check_structure("densities", density, "ticket.mask", mask)
        for value in jax.tree.leaves(density):
            check_fractions("densities", value)
    for index, (high, low) in enumerate(itertools.pairwise(densities)):
        if any(np.any(b > a) for a, b in zip(_by_leaf(high, mask), _by_leaf(low, mask), strict=True)):
            raise InputError(
                f"densities[{index + 1}]={low} is above densities[{index}]={high}; a search can only prune: sort them"
            )


def check_affordable(
    density: float, budget: int, held: np.ndarray, *, minimum: int, least: Mapping[str, float] = MappingProxyType({})
) -> None:
    """Raise InputError if the leaves hold at least more than the budget."""
    if held.sum() > budget:
        raise InputError(
            f"density={density} keeps {budget} weights, but {', '.join(map(repr, least)) or 'all leaves'} with "
            f"minimum={minimum} hold {held.sum()}; raise the density, lower the minimum, or keep fewer leaves dense."
        )


def _by_leaf(density: Density, mask: Mask) -> list[Any]:
    pruned = len(jax.tree.leaves(mask))
    return [density] * pruned if isinstance(density, numbers.Real) else jax.tree.leaves(_tree.align(density, mask))
