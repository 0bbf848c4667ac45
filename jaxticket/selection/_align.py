"""Scores, densities and masks that belong together."""

import numbers

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from jaxticket._check_densities import check_fractions
from jaxticket._check_trees import check_leaves, check_mask, check_structure
from jaxticket._checks import check_fraction
from jaxticket._stacked import Stack, stack_shape
from jaxticket.errors import InputError, StructureError
from jaxticket.scopes import Scope
from jaxticket.scopes._by_slice import stack_of
from jaxticket.typing import Density, Mask, Scores


def align(scores: Scores, density: Density, mask: Mask | None, scope: Scope) -> tuple[Scores, Density, Mask | None]:
    """Return scores, density and mask with None in the same places, checked before any work."""
    check_leaves("scores", scores)
    scores = _tree.map_present(jnp.asarray, scores)
    if isinstance(density, numbers.Real | str) or getattr(density, "ndim", None) == 0:
        check_fraction("density", density)
        density_tree = _tree.map_present(lambda _: density, scores)
    elif scope.joint:
        raise InputError(
            f"density is a {type(density).__name__}, but with scopes.tree() all leaves share one density: pass a "
            "number, or scope=scopes.leaf() for densities by leaf."
        )
    else:
        density = check_structure("density", density, "scores", scores)
        _check_by_leaf(density, scores, stack_of(scope))
        scores = _tree.tree_map(lambda s, d: None if d is None else s, scores, density)
        density_tree = density
    if mask is not None:
        mask = check_structure("mask", mask, "scores", scores)
        check_mask("mask", mask)
        scores = _tree.tree_map(lambda s, m: None if m is None else s, scores, mask)
        mask = _tree.tree_map(_check_mask, _tree.names(scores), scores, mask)
    density_tree = _tree.map_present(lambda s, d: d, scores, density_tree)
    return scores, density if scope.joint else density_tree, mask


def _check_mask(name: str, scores: jax.Array | None, mask: jax.Array | None) -> jax.Array | None:
    if scores is None or mask is None:
        return None
    mask = jnp.asarray(mask, bool)
    if mask.ndim != scores.ndim or any(1 not in (m, s) and m != s for m, s in zip(mask.shape, scores.shape)):
        raise StructureError(
            f"mask at {name!r} has shape {mask.shape}, which does not broadcast with scores of {scores.shape}; each "
            "axis must be full or 1."
        )
    return mask


def _check_by_leaf(density: Density, scores: Scores, stack: Stack) -> None:
    """Raise InputError for a density that is neither a fraction nor, for a stacked leaf, an array of one a layer."""
    columns = (_tree.leaves(t) for t in (_tree.names(scores), density, scores))
    for name, d, s, axes in zip(*columns, stack.axes(scores), strict=True):
        if d is None:
            continue
        (check_fractions if axes or s is None else check_fraction)("density", d)
        if s is not None and np.ndim(d) and jnp.shape(d) != stack_shape(s.shape, axes):
            raise StructureError(
                f"density at {name!r} has shape {jnp.shape(d)}; a density a layer of scores of {s.shape} has shape "
                f"{stack_shape(s.shape, axes)}."
            )
