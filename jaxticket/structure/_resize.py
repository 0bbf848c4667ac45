"""Trees without the channels that a mask drops, and back."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxticket.errors import InputError
from jaxticket.structure._channels import Channels, channels, check_exact, kept_entries
from jaxticket.structure._groups import Groups
from jaxticket.structure._owners import Leaf, fits, owners_within
from jaxticket.transforms._unit_mask import expand_masks
from jaxticket.typing import Mask, PyTree


def shrink(tree: PyTree, mask: Mask | Channels, groups: Groups, *, allow_inexact: bool = False) -> PyTree:
    """Remove the channels that a mask drops: the same tree with smaller arrays.

    The tree may be the variables, a part of them (the parameters, the batch statistics), a mask, or the state of an
    optimizer, whose moments and averages lie under the paths of their parameters. What is not laid out like a leaf of
    the variables stays: counts, keys, schedules. The mask of a plan over `structure.unit(groups)`, which a state holds
    as a mask of channels, becomes one over the parameters. Arrays are cut on the host, so it does not run under jit.

    Args:
      tree: what is made smaller.
      mask: as in `structure.channels`.
      groups: the groups of the variables.
      allow_inexact: whether channels of inexact groups may be removed, which gives another network than the mask does.

    Returns:
      A tree of the same structure.

    Raises:
      InputError: a mask that does not fit the groups, inexact groups without leave, or an array of the tree that is
        neither laid out like its parameter nor independent of it, as the factored moments of adafactor are.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from jaxticket import structure
      >>> params = {"a": jnp.ones((4, 3)), "b": jnp.ones((3, 2))}
      >>> groups = structure.trace(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((5, 4)))
      >>> kept = {"a:1": jnp.array([True, False, True])}
      >>> smaller = structure.shrink(params, kept, groups)
      >>> smaller["a"].shape, smaller["b"].shape
      ((4, 2), (2, 2))
      >>> structure.shrink(optax.adam(1e-3).init(params), kept, groups)[0].mu["b"].shape
      (2, 2)
    """
    tree, kept = expand_masks(tree), channels(mask, groups)
    check_exact(groups, kept, allow_inexact=allow_inexact)
    entries, sizes = kept_entries(groups, kept), {leaf.path: leaf.shape for leaf in groups.leaves}

    def cut(path: str, x: Any) -> Any:
        for axis, stay in enumerate(entries[path] if path else ()):
            if stay is not None and x.shape[axis] != 1:
                x = _take(_whole_along(x, axis), stay, axis)
        return x

    return jax.tree.map(cut, _owners(tree, sizes), tree)


def expand(tree: PyTree, mask: Mask | Channels, groups: Groups) -> PyTree:
    """Put back the channels that `shrink` removed, as zeros: the same tree at the traced sizes.

    In a mask, an axis of size 1 stands for all channels that are kept, so that it grows to the traced size. In other
    arrays it stays, as a statistic that channels share, except where a single channel is kept: then it is that channel.

    Args:
      tree: what `shrink` returned, perhaps trained further.
      mask: the mask that it was made by.
      groups: the groups of the variables.

    Returns:
      A tree of the same structure, whose removed entries are 0, or False.

    Raises:
      InputError: a mask that does not fit the groups, or an array of another size than `shrink` makes.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import structure
      >>> params = {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 2))}
      >>> groups = structure.trace(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((5, 2)))
      >>> kept = {"a:1": jnp.array([True, False, True])}
      >>> structure.expand(structure.shrink(params, kept, groups), kept, groups)["a"]
      Array([[1., 0., 1.],
             [1., 0., 1.]], dtype=float32)
    """
    kept = channels(mask, groups)
    entries, sizes = kept_entries(groups, kept), groups.shapes(kept)
    full = groups.shapes()

    def fill(path: str, x: Any) -> Any:
        for axis, stay in enumerate(entries[path] if path else ()):
            if stay is not None and (x.shape[axis] != 1 or len(stay) == 1 or x.dtype == bool):
                places = np.full(full[path][axis], x.shape[axis])  # that of a zero behind the others
                places[stay] = np.arange(len(stay)) % x.shape[axis]  # an axis of size 1 stands for all of them
                pad = np.pad if isinstance(x, np.ndarray) else jnp.pad
                x = _take(pad(_whole_along(x, axis), [(0, int(a == axis)) for a in range(x.ndim)]), places, axis)
        return x

    return jax.tree.map(fill, _owners(tree, sizes), tree)


def _take(x: Any, places: np.ndarray, axis: int) -> Any:
    return jnp.take(x, places, axis=axis) if isinstance(x, jax.Array) else np.take(x, places, axis=axis)


def _whole_along(x: Any, axis: int) -> Any:
    """Return an array that is not sharded along an axis, where its type says so (Explicit meshes).

    Its new size may not divide among the devices.
    """
    if not isinstance(x, jax.Array):
        return x
    layout = jax.typeof(x).sharding
    if AxisType.Explicit not in layout.mesh.axis_types:
        return x
    spec = [None if a == axis else place for a, place in enumerate(layout.spec)]
    return jax.sharding.reshard(x, NamedSharding(layout.mesh, PartitionSpec(*spec)))


def _owners(tree: PyTree, sizes: dict[str, tuple[int, ...]]) -> PyTree:
    """Return for every array of a tree the leaf of the variables like which it is laid out; "" for none."""
    owned, arrays = owners_within(tree, list(sizes)), jax.tree.leaves(tree)
    paths = [_layout(leaf, x, sizes) for leaf, x in zip(owned, arrays, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(tree), paths)


def _layout(leaf: Leaf, x: Any, sizes: dict[str, tuple[int, ...]]) -> str:
    shape = tuple(np.shape(x))
    if len(leaf.paths) == 1 and fits(shape, sizes[leaf.paths[0]]):
        return leaf.paths[0]
    if math.prod(shape) <= 1 or not (x.dtype == bool or jnp.issubdtype(x.dtype, jnp.inexact)):
        return ""
    if not leaf.paths:
        _check_independent(leaf.name, shape, sizes)
        return ""
    raise InputError(
        f"{leaf.name} of shape {shape} is not laid out like {' or '.join(leaf.paths[:2])}, of shape "
        f"{sizes[leaf.paths[0]]}; start the optimizer again from the smaller parameters, or shrink a tree that holds "
        "only what is"
    )


def _check_independent(name: str, shape: tuple[int, ...], sizes: dict[str, tuple[int, ...]]) -> None:
    """Raise InputError for an array that hangs together with parameters without being laid out like one of them."""
    ends = {end for path in sizes for end in (path, path.partition("/")[2]) if end}
    inside = [end for end in ends if f"/{end}/" in f"/{name}/"]
    if inside or shape == (sum(map(math.prod, sizes.values())),):
        of = f"a part of the state of {inside[0]}" if inside else "all parameters in a row"
        raise InputError(f"{name} of shape {shape} is {of}; start the optimizer again from the smaller parameters")
