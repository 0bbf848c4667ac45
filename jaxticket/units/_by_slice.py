"""Units of stacked leaves, within each layer or expert."""

import dataclasses

from jaxticket import _stacked
from jaxticket.errors import InputError
from jaxticket.typing import Mask, PyTree, Scores, Stacked
from jaxticket.units._kinds import Unit


@dataclasses.dataclass(frozen=True)
class BySlice:
    unit: Unit
    stack: _stacked.Stack

    def pool(self, scores: Scores) -> Scores:
        return self.stack.map(self.unit.pool, scores)

    def expand(self, mask: Mask, like: Scores) -> Mask:
        return self.stack.map(self.unit.expand, mask, like)

    def pool_mask(self, mask: Mask) -> Mask:
        return self.stack.map(self.unit.pool_mask, mask)

    def cost(self, tree: PyTree) -> PyTree:
        return self.stack.map(self.unit.cost, tree)


def by_slice(unit: Unit, stacked: Stacked | None) -> Unit:
    """Prune units of each layer or expert of leaves that stack several of them.

    Axes of the unit count within a layer, so that `units.axis(0)` means the same as where layers are apart.

    Args:
      unit: weights that live or die together. It keeps the number of axes, as all units of this module do.
      stacked: regex of a path -> the axis or axes along which layers are stacked. The first regex that matches decides,
        and leaves that none matches are one layer. None stacks nothing.

    Returns:
      A unit for any function that takes one, beside `scopes.by_slice(scope, stacked)`. Functions with an argument
      `stacked=` make both.

    Raises:
      InputError: a unit that spans leaves, or axes that are not whole numbers; when it pools, axes that a leaf does not
        have.
      NoMatchError: when it pools, a regex that decides no leaf.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import units
      >>> scores = {"layers": jnp.array([[[1.0, 2.0], [3.0, 4.0]], [[9.0, 9.0], [9.0, 9.0]]])}  # (layers, in, out)
      >>> units.by_slice(units.axis(-1), {"layers": 0}).pool(scores)["layers"]
      Array([[[2., 3.]],
      <BLANKLINE>
             [[9., 9.]]], dtype=float32)
    """
    stack = _stacked.read(stacked)
    if stack.rules and getattr(unit, "spans_leaves", False):
        raise InputError(
            f"stacked={stacked!r} must be None for units that span leaves, such as structure.unit(groups): "
            "a channel of stacked layers is the same in all of them, since they share an array"
        )
    return BySlice(unit, stack) if stack.rules else unit
