"""Masks of channels: for every group, which of its channels are kept."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree
from jaxticket._check_trees import check_arrays
from jaxticket.errors import InputError
from jaxticket.structure._groups import Group, Groups, Member
from jaxticket.structure._owners import owners
from jaxticket.typing import Mask

Channels = Mapping[str, Any]  # name of a group -> bool of shape (width,), True for channels that are kept


def channels(mask: Mask | Channels, groups: Groups) -> dict[str, np.ndarray]:
    """Return which channels of every group a mask keeps.

    Args:
      mask: a mask of the traced variables, or of a part of them, whose leaves are constant along each channel; None
        leaves say nothing. Or a mask of channels, name of a group -> bool of shape (width,).
      groups: the groups of the variables.

    Returns:
      name of a group -> bool of shape (width,), for all groups; True where nothing is said.

    Raises:
      InputError: a mask that keeps one member of a channel and drops another, drops all channels of a group, drops
        entries that no group holds, or has another shape.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import structure
      >>> params = {"a": jnp.ones((4, 3)), "b": jnp.ones((3, 2))}
      >>> groups = structure.trace(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((5, 4)))
      >>> structure.channels({"a": jnp.array([[True, False, True]]), "b": None}, groups)
      {'a:1': array([ True, False,  True])}
    """
    given = _as_channels(mask, groups)
    if given is None:
        given = _of_tree(mask, groups)
    for group in groups:
        if not given.setdefault(group.name, np.ones(group.width, bool)).any():
            raise InputError(f"mask: no channel of the group {group.name} is kept; keep at least one")
    return given


def _as_channels(mask: Any, groups: Groups) -> dict[str, np.ndarray] | None:
    """Return a mask of channels as arrays on the host, or None where it is a mask of variables."""
    names = {g.name: g for g in groups}
    if not isinstance(mask, Mapping) or not set(mask) <= set(names):
        return None
    given = {name: np.array(kept) for name, kept in mask.items()}
    for name, kept in given.items():
        if kept.shape != (names[name].width,) or kept.dtype != bool:
            raise InputError(
                f"mask: the group {name} takes bool of shape ({names[name].width},), not {kept.dtype} of {kept.shape}"
            )
    return given


def _of_tree(mask: Any, groups: Groups) -> dict[str, np.ndarray]:
    shapes = {leaf.path: leaf.shape for leaf in groups.leaves}
    paths = owners("mask", mask, shapes)
    full = {
        path: np.broadcast_to(np.asarray(leaf), shapes[path])
        for path, leaf in zip(paths, _tree.leaves(mask), strict=True)
        if path is not None
    }
    dead = {path: dead_entries(kept) for path, kept in full.items()}
    given = {g.name: _kept(g, dead) for g in groups}
    for path, kept in full.items():
        if not (kept == _spread(path, shapes[path], groups, given)).all():
            raise InputError(
                f"mask: {path} drops entries that are not whole channels of a group; choose them with "
                "unit=structure.unit(groups), or see str(groups) for what can be removed"
            )
    return given


def dead_entries(kept: np.ndarray) -> list[np.ndarray]:
    """Return for each axis the entries at which nothing is kept."""
    others = [tuple(a for a in range(kept.ndim) if a != axis) for axis in range(kept.ndim)]
    return [~np.any(kept, axis=axes, keepdims=True).ravel() for axes in others]


def _kept(group: Group, dead: Mapping[str, list[np.ndarray]]) -> np.ndarray:
    says = [(m, _channel_dead(m, dead[m.path][m.axis])) for m in group.members if m.path in dead]
    if not says:
        return np.ones(group.width, bool)
    (first, dropped), *others = says
    for member, also in others:
        if (differ := np.flatnonzero(dropped != also)).size:
            a, b = (first, member) if dropped[differ[0]] else (member, first)
            raise InputError(
                f"mask: channel {differ[0]} of the group {group.name} is dropped on axis {a.axis} of {a.path} and kept "
                f"on axis {b.axis} of {b.path}; choose channels with unit=structure.unit(groups)"
            )
    return ~dropped


def _channel_dead(member: Member, dead: np.ndarray) -> np.ndarray:
    return dead[np.array(member.positions)].all(axis=1)


def _spread(path: str, shape: tuple[int, ...], groups: Groups, kept: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the mask of a leaf that channels make."""
    mask = np.ones((1,) * len(shape), bool)
    for group in groups:
        for member in group.members:
            if member.path == path:
                axis = np.ones(shape[member.axis], bool)
                axis[np.array(member.positions)[~kept[group.name]].ravel()] = False
                mask = mask & axis.reshape([-1 if a == member.axis else 1 for a in range(len(shape))])
    return mask


def kept_entries(groups: Groups, kept: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray | None]]:
    """Return for every leaf and axis the entries that stay, None for all of them."""
    entries: dict[str, list[Any]] = {leaf.path: [None] * len(leaf.shape) for leaf in groups.leaves}
    shapes = {leaf.path: leaf.shape for leaf in groups.leaves}
    stay: dict[tuple[str, int], np.ndarray] = {}
    for group in groups:
        for m in group.members:
            if kept[group.name].all():
                continue
            along = stay.setdefault((m.path, m.axis), np.ones(shapes[m.path][m.axis], bool))
            along[np.array(m.positions)[~kept[group.name]].ravel()] = False
    for (path, axis), mask in stay.items():
        entries[path][axis] = np.flatnonzero(mask)
    return entries


def check_exact(groups: Groups, kept: Mapping[str, np.ndarray], *, allow_inexact: bool) -> None:
    """Raise InputError where channels of an inexact group are dropped without leave."""
    for group in groups:
        if group.inexact is not None and not allow_inexact and not kept[group.name].all():
            raise InputError(
                f"the group {group.name} is inexact: {group.inexact}. The smaller network is not the masked one; pass "
                "allow_inexact=True and train it further, or keep its channels"
            )


def spread(kept: Channels, groups: Groups, like: Any) -> Mask:
    """Return the mask over variables of a mask of channels; it may be traced.

    Args:
      kept: name of a group -> bool of shape (width,). Groups that are not named are kept whole.
      groups: the groups of the variables.
      like: the variables, or a part of them.

    Returns:
      A mask with the structure of `like`, whose leaves broadcast to it; None for leaves without channels.

    Raises:
      InputError: a name that is not a group, or a leaf that was not traced.

    Examples:
      >>> import jax.numpy as jnp
      >>> from jaxticket import structure
      >>> params = {"a": jnp.ones((4, 3)), "b": jnp.ones((3, 2))}
      >>> groups = structure.trace(lambda p, x: x @ p["a"] @ p["b"], params, jnp.ones((5, 4)))
      >>> structure.spread({"a:1": jnp.array([True, False, True])}, groups, params)["a"]
      Array([[ True, False,  True]], dtype=bool)
    """
    for name in kept:
        groups[name]  # raises for a name that is not there
    places: dict[str, list[tuple[str, Member]]] = {}
    for group in groups:
        for member in group.members:
            places.setdefault(member.path, []).append((group.name, member))
    check_arrays("like", like)
    shapes = {leaf.path: leaf.shape for leaf in groups.leaves}

    paths = iter(owners("like", like, shapes))

    def leaf_mask(x: jax.Array | None) -> jax.Array | None:
        path = next(paths)
        if x is None or path not in places:
            return None
        mask = jnp.ones((1,) * x.ndim, bool)
        for group_name, member in places[path]:
            if group_name in kept:
                axis = _along(member, x.shape[member.axis], jnp.asarray(kept[group_name], bool))
                mask = mask & axis.reshape([-1 if a == member.axis else 1 for a in range(x.ndim)])
        return mask

    return _tree.tree_map(leaf_mask, like)


def _along(member: Member, size: int, kept: jax.Array) -> jax.Array:
    """Return which entries of an axis stay: (size,). Entries of no channel do.

    It reads and does not write, which compilers fuse with what uses the mask at every step.
    """
    positions = np.array(member.positions)
    channel = np.full(size, -1)
    channel[positions] = np.arange(len(positions))[:, None]
    if np.array_equal(channel, np.arange(len(positions))):
        return kept
    return jnp.where(channel < 0, True, kept[np.maximum(channel, 0)])
