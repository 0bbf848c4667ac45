"""The units: weights, slices, tiles, attention heads and leaves."""

from jaxticket._checks import check_axis, check_count
from jaxticket.errors import InputError
from jaxticket.units._kinds import Axis, Block, Element, Heads, Leaf, Unit
from jaxticket.units._reduce import Reduce, mean


def element() -> Unit:
    """Prune each weight by itself: unstructured sparsity.

    Examples:
      >>> import jax.numpy as jnp
      >>> element().pool({"w": jnp.array([1.0, 2.0])})
      {'w': Array([1., 2.], dtype=float32)}
    """
    return Element()


def axis(axis: int = -1, *, reduce: Reduce = mean) -> Unit:
    """Prune slices along one axis: output channels of flax kernels for −1, input channels for −2.

    The masks have size 1 on every other axis: a channel mask costs O(channels).

    Args:
      axis: the axis whose entries are the units.
      reduce: turns the scores of a unit's weights into one.

    Returns:
      A unit for `select`, which raises InputError for leaves without that axis.

    Raises:
      InputError: an axis that is not a whole number.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import units
      >>> units.axis(-1, reduce=units.total).pool(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
      Array([[4., 6.]], dtype=float32)
    """
    check_axis("axis", axis)
    return Axis(axis, reduce)


def block(*shape: int, reduce: Reduce = mean) -> Unit:
    """Prune tiles of the last axes: `block(4, 4)` tiles (in, out) of dense kernels, and of each tap of convolutions.

    Tiles at an edge may be smaller; their mean counts their own weights only.

    Args:
      *shape: the sizes of a tile along the last axes.
      reduce: turns the scores of a unit's weights into one.

    Returns:
      A unit for `select`, which raises InputError for leaves of fewer axes.

    Raises:
      InputError: sizes below 1, or none.

    Examples:
      >>> import jax.numpy as jnp
      >>> block(2, 2).pool(jnp.arange(6.0).reshape(2, 3))
      Array([[2. , 3.5]], dtype=float32)
    """
    for size in shape:
        check_count(0, shape=size)
    if not shape or any(b < 1 for b in shape):
        raise InputError(f"units.block{shape}: pass at least one size, each 1 or more, for example block(4, 4).")
    return Block(shape, reduce)


def heads(count: int, *, axis: int = -1, reduce: Reduce = mean) -> Unit:
    """Prune attention heads that lie side by side on one axis, as in fused (embed, heads · head size) kernels.

    Where heads have an axis of their own, `units.axis` of that axis does the same.

    Args:
      count: the number of heads.
      axis: the axis on which they lie.
      reduce: turns the scores of a unit's weights into one.

    Returns:
      A unit for `select`, which raises InputError for leaves whose axis `count` does not divide.

    Raises:
      InputError: a count below 1, or an axis that is not a whole number.

    Examples:
      >>> import jax.numpy as jnp
      >>> heads(2).pool(jnp.array([[1.0, 3.0, 5.0, 7.0]]))
      Array([[2., 6.]], dtype=float32)
    """
    check_count(0, count=count)
    check_axis("axis", axis)
    if count < 1:
        raise InputError(f"units.heads(count={count}): pass the number of heads, 1 or more.")
    return Heads(count, axis, reduce)


def leaf(*, reduce: Reduce = mean) -> Unit:
    """Prune each leaf as a whole (layer pruning, with `scopes.tree`).

    Examples:
      >>> import jax.numpy as jnp
      >>> leaf().pool(jnp.array([[1.0, 3.0]]))
      Array([[2.]], dtype=float32)
    """
    return Leaf(reduce)
