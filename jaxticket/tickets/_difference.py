"""Sparse differences of parameters: tickets of a tuning, that are saved small, added and composed."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _processes, _safetensors, _tree, files
from jaxticket._check_trees import check_alike, check_fits
from jaxticket.errors import CheckpointError, InputError
from jaxticket.typing import Mask, Params

_INDICES, _VALUES, _SHAPES = ".indices", ".values", "shapes"
_FOREIGN = (LookupError, ValueError, TypeError, AttributeError, RecursionError)


@dataclasses.dataclass(frozen=True)
class Difference:
    """The entries of parameters that a tuning changed, and the leaves that it replaced; `take_difference` makes it.

    Attributes:
      places: the changed entries of each leaf, by its path: a tuple of int32 arrays, one for each axis.
      values: their differences, in the same order.
      whole: leaves that are kept whole, such as the head of a task, by their paths.
      shapes: the shapes of the leaves that have changed entries.
    """

    places: Mapping[str, tuple[np.ndarray, ...]]
    values: Mapping[str, jax.Array | np.ndarray]
    whole: Mapping[str, jax.Array | np.ndarray]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def entries(self) -> int:
        """The number of changed entries, without those of leaves that are kept whole."""
        return sum(x.size for x in self.values.values())

    def add_to(self, params: Params, *, scale: float = 1.0, whole: bool = True) -> Params:
        """Return the parameters with the differences added, and leaves that are kept whole in their places.

        Args:
          params: the parameters, such as the pretrained ones, or those with another difference added.
          scale: a factor of the differences; −1 takes them away.
          whole: whether to put in the leaves that are kept whole; else the parameters may lack them.

        Raises:
          InputError: a path that the parameters lack, or another shape.
        """
        names, structure = _tree.leaves(_tree.names(params)), _tree.structure(params)
        leaves = dict(zip(names, _tree.leaves(params), strict=True))
        for name, shape in {**self.shapes, **({n: x.shape for n, x in self.whole.items()} if whole else {})}.items():
            if leaves.get(name) is None or leaves[name].shape != shape:
                has = "is missing" if leaves.get(name) is None else f"has shape {leaves[name].shape}"
                raise InputError(f"params: {name!r} {has}, and the difference is of {shape}; pass the tuned network's")
        for name, places in self.places.items():
            leaf = jnp.asarray(leaves[name])
            leaves[name] = leaf.at[places].add(jnp.asarray(scale * self.values[name], leaf.dtype))
        if whole:
            leaves |= {name: jnp.asarray(x) for name, x in self.whole.items()}
        return structure.unflatten([leaves[name] for name in names])


def take_difference(base: Params, params: Params, mask: Mask) -> Difference:
    """Return the difference between tuned parameters and those before, as values and indices.

    Args:
      base: the parameters before the tuning.
      params: the tuned parameters.
      mask: the entries that were tuned; leaves where it is None, and scalars, are kept whole if they changed. Entries
        that did not change are left out.

    Returns:
      A Difference, on the host.

    Raises:
      InputError: parameters that changed outside the mask.
      StructureError: trees that do not fit each other.

    Examples:
      >>> base = {"w": jnp.zeros((2, 3)), "head": jnp.zeros(2)}
      >>> tuned = {"w": jnp.array([[0.0, 0, 5], [1, 0, 0]]), "head": jnp.ones(2)}
      >>> difference = take_difference(base, tuned, {"w": tuned["w"] != 0, "head": None})
      >>> difference.entries, list(difference.whole)
      (2, ['head'])
      >>> twice = difference.add_to(difference.add_to(base))
      >>> twice["w"].tolist(), twice["head"].tolist()
      ([[0.0, 0.0, 10.0], [2.0, 0.0, 0.0]], [1.0, 1.0])
    """
    base = check_alike("base", base, "params", params)
    mask = check_fits(params, mask)
    places, values, whole, shapes = {}, {}, {}, {}
    for name, old, new, kept in zip(*map(_tree.leaves, (_tree.names(params), base, params, mask)), strict=True):
        if new is None:
            continue
        old, new = (np.asarray(_processes.on_host(jnp.asarray(x))) for x in (old, new))
        if kept is None or not new.ndim:
            if (old != new).any():
                whole[name] = new
            continue
        changed = old != new
        if (changed & ~np.broadcast_to(np.asarray(kept), new.shape)).any():
            raise InputError(f"params: {name!r} differs from base outside the mask; tune it under `tune_only`")
        places[name] = tuple(axis.astype(np.int32) for axis in np.nonzero(changed))
        values[name], shapes[name] = new[changed] - old[changed], new.shape
    return Difference(places, values, whole, shapes)


def save_difference(path: str | os.PathLike[str], difference: Difference) -> None:
    """Write a difference as safetensors: for each leaf flat indices in C order, and values.

    Args:
      path: the file; it is replaced whole, and its folder is made.
      difference: the difference.

    Raises:
      CheckpointError: a file that cannot be written.

    Examples:
      >>> save_difference("tuning.safetensors", difference)  # doctest: +SKIP
    """
    arrays: dict[str, np.ndarray] = {name: np.asarray(x) for name, x in difference.whole.items()}
    for name, places in difference.places.items():
        size = int(np.prod(difference.shapes[name], dtype=np.int64))
        flat = np.ravel_multi_index(places, difference.shapes[name])
        arrays[name + _INDICES] = flat.astype(np.int32 if size < 2**31 else np.int64)
        arrays[name + _VALUES] = np.asarray(difference.values[name])
    files.write_together(
        pathlib.Path(path), _safetensors.to_bytes(arrays, {_SHAPES: json.dumps(dict(difference.shapes))})
    )


def load_difference(path: str | os.PathLike[str]) -> Difference:
    """Read a difference that `save_difference` wrote.

    Args:
      path: the file.

    Returns:
      The Difference.

    Raises:
      CheckpointError: a file that is missing, damaged, or of another kind.

    Examples:
      >>> params = load_difference("tuning.safetensors").add_to(params)  # doctest: +SKIP
    """
    file = pathlib.Path(path)
    stored, metadata = _safetensors.read_header(file)
    try:
        shapes = {str(name): tuple(map(int, shape)) for name, shape in json.loads(metadata[_SHAPES]).items()}
        indices = {name: _safetensors.read(stored.pop(name + _INDICES)) for name in shapes}
        places = {name: _unravel(flat, shapes[name]) for name, flat in indices.items()}
        values = {name: _safetensors.read(stored.pop(name + _VALUES)) for name in shapes}
        if any(values[name].shape != indices[name].shape for name in shapes):
            raise ValueError("as many values as indices are needed")
    except _FOREIGN as error:
        raise CheckpointError(f"{file} does not hold a difference ({error!r:.200}); restore it") from error
    return Difference(places, values, {name: _safetensors.read(x) for name, x in stored.items()}, shapes)


def _unravel(flat: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return tuple(axis.astype(np.int32) for axis in np.unravel_index(flat, shape))
