"""Trees without the channels that a mask drops, and back."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from jaxticket.errors import InputError
from jaxticket.structure._channels import Channels, channels, check_exact, fits, kept_entries
from jaxticket.structure._groups import Groups
from jaxticket.typing import Mask, PyTree


def shrink(tree: PyTree, mask: Mask | Channels, groups: Groups, *, allow_inexact: bool = False) -> PyTree:
    """Remove the channels that a mask drops: the same tree with smaller arrays.

    The tree may be the variables, a part of them (the parameters, the batch statistics), a mask, or the state of an
    optimizer, whose moments and averages lie under the paths of their parameters. What is not laid out like a leaf of
    the variables stays: counts, keys, schedules. Arrays are cut on the host, so it does not run under jit.

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
    kept = channels(mask, groups)
    check_exact(groups, kept, allow_inexact=allow_inexact)
    entries, sizes = kept_entries(groups, kept), {leaf.path: leaf.shape for leaf in groups.leaves}

    def cut(name: str, x: Any) -> Any:
        path = _owner(name, x, sizes)
        for axis, stay in enumerate(entries[path] if path else ()):
            if stay is not None and x.shape[axis] != 1:
                x = jnp.take(x, stay, axis=axis) if isinstance(x, jax.Array) else np.take(x, stay, axis=axis)
        return x

    return jax.tree.map(cut, _names_of_arrays(tree), tree)


def expand(tree: PyTree, mask: Mask | Channels, groups: Groups) -> PyTree:
    """Put back the channels that `shrink` removed, as zeros: the same tree at the traced sizes.

    Where a single channel is kept, an axis of size 1 of a mask is taken for that channel, and not for all of them.

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

    def fill(name: str, x: Any) -> Any:
        path = _owner(name, x, sizes)
        if path is None:
            return x
        for axis, stay in enumerate(entries[path]):
            if stay is not None and (x.shape[axis] != 1 or len(stay) == 1):
                shape = [full[path][axis] if a == axis else n for a, n in enumerate(x.shape)]
                index = tuple(stay if a == axis else slice(None) for a in range(x.ndim))
                x = _place(x, shape, index)
        return x

    return jax.tree.map(fill, _names_of_arrays(tree), tree)


def _place(x: Any, shape: list[int], index: tuple[Any, ...]) -> Any:
    if isinstance(x, jax.Array):
        return jnp.zeros(shape, x.dtype).at[index].set(x)
    full = np.zeros(shape, x.dtype)
    full[index] = x
    return full


def _names_of_arrays(tree: PyTree) -> PyTree:
    """Return the names of the leaves that are not None."""
    return jax.tree.unflatten(jax.tree.structure(tree), _tree.present_names(tree))


def _owner(name: str, x: Any, sizes: dict[str, tuple[int, ...]]) -> str | None:
    """Return the leaf of the variables like which an array is laid out: its path ends in that leaf's path.

    The trunk of a leaf's path may be missing, as 'params' is in the state of an optimizer of the parameters alone.
    """
    shared = {path: _common_end(name.split("/"), path.split("/")) for path in sizes}
    most = max(shared.values())
    owners = [path for path, count in shared.items() if most and count == most]
    least = min((path.count("/") for path in owners), default=0)  # 'a/kernel' is not 'b/a/kernel', nor is its moment
    owners = [path for path in owners if path.count("/") == least]
    shape = tuple(np.shape(x))
    if len(owners) == 1 and fits(shape, sizes[owners[0]]):
        return owners[0]
    if math.prod(shape) <= 1 or not (x.dtype == bool or jnp.issubdtype(x.dtype, jnp.inexact)):
        return None
    if not owners:
        _check_independent(name, shape, sizes)
        return None
    raise InputError(
        f"{name} of shape {shape} is not laid out like {' or '.join(owners[:2])}, of shape {sizes[owners[0]]}"
        "; start the optimizer again from the smaller parameters, or shrink a tree that holds only what is"
    )


def _check_independent(name: str, shape: tuple[int, ...], sizes: dict[str, tuple[int, ...]]) -> None:
    """Raise InputError for an array that hangs together with parameters without being laid out like one of them."""
    ends = {end for path in sizes for end in (path, path.partition("/")[2]) if end}
    inside = [end for end in ends if f"/{end}/" in f"/{name}/"]
    if inside or shape == (sum(map(math.prod, sizes.values())),):
        of = f"a part of the state of {inside[0]}" if inside else "all parameters in a row"
        raise InputError(f"{name} of shape {shape} is {of}; start the optimizer again from the smaller parameters")


def _common_end(a: list[str], b: list[str]) -> int:
    """Return how many parts two paths have in common at their ends."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(reversed(a), reversed(b))))
