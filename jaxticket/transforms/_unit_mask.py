"""Masks of units that span leaves, by which a state holds the masks of such a plan: one byte a unit, not a weight."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from jaxticket import _tree
from jaxticket._check_trees import check_fits
from jaxticket.errors import StructureError
from jaxticket.typing import Mask, PyTree
from jaxticket.units import Unit


@dataclasses.dataclass(frozen=True)
class Layout:
    """The unit and the parameters of a `UnitMask`: static under jit, so the hash of a large unit is kept."""

    unit: Unit
    structure: Any  # of the mask over parameters
    shapes: tuple[tuple[int, ...] | None, ...]  # of its parameters; None where it is None

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.unit, self.structure, self.shapes))

    def __hash__(self) -> int:
        return self._hash

    def expand(self, alive: Mask) -> Mask:
        """Return the mask over the parameters of a mask over units."""
        like = [None if shape is None else jax.ShapeDtypeStruct(shape, bool) for shape in self.shapes]
        return self.unit.expand(alive, jax.tree.unflatten(self.structure, like))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class UnitMask:
    """The mask of a plan whose units span leaves, such as `structure.unit(groups)`, in a `SparseState`.

    `mask_of` and `expand_masks` turn it into the mask over the parameters.
    """

    alive: Mask  # bool, in the structure of the unit's pooled scores: a vector a group
    layout: Layout = dataclasses.field(metadata={"static": True})

    def expand(self) -> Mask:
        """Return the mask over the parameters; the leading axes of stacked states stay."""
        expand = self.layout.expand
        for _ in range(max(x.ndim for x in jax.tree.leaves(self.alive)) - 1):
            expand = jax.vmap(expand)
        return expand(self.alive)


def hold(unit: Unit | None, mask: Mask, params: PyTree, *, given: bool) -> Mask | UnitMask:
    """Return a mask in the form in which the state of a plan of these units holds it.

    Args:
      unit: the unit of the plan's masks; None where they have several.
      mask: a mask in the structure of the parameters.
      params: the parameters.
      given: whether the mask is the user's, which may be another than a mask of units.

    Raises:
      StructureError: a mask whose values are known, and which drops a part of a unit.
    """
    if unit is None or not getattr(unit, "spans_leaves", False):
        return mask
    shapes = [None if m is None else np.shape(p) for m, p in zip(_tree.leaves(mask), _tree.leaves(params), strict=True)]
    held = UnitMask(unit.pool_mask(mask), Layout(unit, _tree.structure(mask), tuple(shapes)))
    if given:
        _check_whole(mask, held.expand())
    return held


def hold_as(mask: Mask, like: Mask | UnitMask) -> Mask | UnitMask:
    """Return a mask in the form in which a state holds another one."""
    if not isinstance(like, UnitMask):
        return _tree.map_present(_as_wide_as, mask, like)
    return UnitMask(like.layout.unit.pool_mask(mask), like.layout)


def expand_mask(mask: Mask | UnitMask, params: PyTree | None = None) -> Mask:
    """Return the mask over the parameters that a state holds, in their containers where they are given."""
    if not isinstance(mask, UnitMask):
        return mask
    return mask.expand() if params is None else check_fits(params, mask.expand(), name="the mask in state")


def expand_masks(tree: PyTree) -> PyTree:
    """Return a tree, such as an optimizer state, with the mask over the parameters for each `UnitMask`."""
    return jax.tree.map(expand_mask, tree, is_leaf=lambda x: isinstance(x, UnitMask))


def _check_whole(mask: Mask, whole: Mask) -> None:
    def differs(m: jax.Array, w: jax.Array, name: str) -> None:
        if not isinstance(m, jax.core.Tracer) and not isinstance(w, jax.core.Tracer) and (m != w).any():
            raise StructureError(
                f"mask drops a part of a unit at {name!r}, whose plan drops whole ones, of several leaves; choose it "
                "with the same unit, as jt.select(scores, density, unit=unit) does."
            )

    _tree.map_present(differs, mask, whole, _tree.names(mask))


def _as_wide_as(new: jax.Array, old: jax.Array) -> jax.Array:
    """Return the refreshed mask in the shape that the state holds, which must not change under jit."""
    if np.broadcast_shapes(new.shape, old.shape) != old.shape:
        raise StructureError(
            f"a refresh turns a mask of shape {old.shape} into {new.shape}; start from a mask that is full along "
            "every axis on which the plan's units differ."
        )
    return jax.numpy.broadcast_to(new, old.shape)
