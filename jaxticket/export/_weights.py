"""Weights as safetensors: dense, or packed as the weights that a mask keeps and one bit for each weight."""

import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _processes, _tree, files
from jaxticket._check_trees import check_fits
from jaxticket._safetensors import DTYPES, METADATA
from jaxticket.errors import CheckpointError, InputError, MissingExtraError
from jaxticket.export._arrays import by_path
from jaxticket.typing import Mask, PyTree

_PACKED = "packed"  # the key of the metadata: JSON of the length of each packed array's last axis
_VALUES, _BITS = ".values", ".bits"
_FOREIGN = (LookupError, ValueError, TypeError, AttributeError, RecursionError)  # of a file that another wrote


def save_weights(path: str | os.PathLike[str], variables: PyTree, *, mask: Mask | None = None) -> None:
    """Write arrays as safetensors, with the names of their paths as keys and their own dtypes.

    Without a mask any reader of safetensors loads the arrays. With one the weights that it keeps are stored, and one
    bit a weight: `w.values` has the kept weights in order, and `w.bits` has eight entries a byte along the last axis,
    whose length stands in the metadata `packed`. So density d of float32 takes d + 1/32 of the bytes. In numpy:

        mask = np.unpackbits(bits, axis=-1, count=length).astype(bool)
        w = np.zeros(mask.shape, values.dtype); w[mask] = values

    Args:
      path: the file; it is replaced whole, and its folder is made.
      variables: a pytree of arrays.
      mask: a mask of the variables; leaves where it is None are stored dense. Weights outside it load as 0.

    Raises:
      InputError: leaves that are not arrays, have the same path, or a dtype that safetensors lacks.
      StructureError: a mask that does not fit the variables.
      MissingExtraError: safetensors is absent.
      CheckpointError: a file that cannot be written.
    """
    safetensors = _safetensors()
    arrays = by_path("variables", variables)
    for name, x in arrays.items():
        if str(x.dtype) not in DTYPES.values() or name == METADATA:
            what = "is a reserved name" if name == METADATA else f"has dtype {x.dtype}"
            raise InputError(f"variables: {name!r} {what}, which safetensors does not hold; convert or leave it out")
    kept = {} if mask is None else _kept(check_fits(variables, mask))
    content: dict[str, np.ndarray] = {}
    packed: dict[str, int] = {}
    for name, x in arrays.items():
        host = np.asarray(_processes.on_host(x) if isinstance(x, jax.Array) else x, order="C")
        parts = {name: host}
        if name in kept and host.ndim:
            full = np.broadcast_to(np.asarray(kept[name]), host.shape)
            parts = {name + _VALUES: host[full], name + _BITS: np.packbits(full, axis=-1)}
            packed[name] = host.shape[-1]
        if twice := [part for part in parts if part != name and part in arrays]:
            raise InputError(f"variables: {twice[0]!r} is also what the packed {name!r} is stored as; rename it")
        content |= parts
    metadata = {_PACKED: json.dumps(packed)} if packed else None
    files.write_together(pathlib.Path(path), safetensors.numpy.save(content, metadata))


def load_weights(path: str | os.PathLike[str], *, like: PyTree = None) -> PyTree:
    """Read a file of safetensors: the arrays that `save_weights` wrote, packed ones with zeros outside their mask.

    Args:
      path: the file.
      like: a pytree of arrays, or of `jax.ShapeDtypeStruct`, with the paths and shapes that the file must have.

    Returns:
      The arrays in the containers of `like`, or in a dict by the names of their paths, as programs take them. As
      always in jax, numbers of 64 bits become such of 32 unless `jax_enable_x64` is set.

    Raises:
      CheckpointError: a file that is missing, damaged, or does not hold the arrays of `like`.
      MissingExtraError: safetensors is absent.
    """
    arrays = {name: jnp.asarray(x) for name, x in _read(pathlib.Path(path)).items()}
    if like is None:
        return arrays
    wanted = by_path("like", like)
    if arrays.keys() != wanted.keys():
        name = sorted(arrays.keys() ^ wanted.keys())[0]
        raise CheckpointError(f"{path}: only {'the file' if name in arrays else 'like'} has {name!r}; pass its network")
    for name, x in wanted.items():
        if arrays[name].shape != x.shape:
            raise CheckpointError(f"{path}: {name!r} has shape {arrays[name].shape}, not {x.shape}; pass its network")
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in wanted])


def _kept(mask: Mask) -> dict[str, Any]:
    """Return the masks that are not None by the names of their paths."""
    named = zip(_tree.leaves(_tree.names(mask)), _tree.leaves(mask), strict=True)
    return {name: m for name, m in named if m is not None}


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    safetensors = _safetensors()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}); name a file of weights") from error
    try:
        stored = safetensors.deserialize(content)
        arrays = {
            name: np.frombuffer(x["data"], jnp.dtype(DTYPES[x["dtype"]])).reshape(x["shape"]) for name, x in stored
        }
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        packed = json.loads(header.get(METADATA, {}).get(_PACKED, "{}"))
        for name, length in packed.items():
            arrays[name] = _unpack(arrays.pop(name + _VALUES), arrays.pop(name + _BITS), length)
    except (safetensors.SafetensorError, *_FOREIGN) as error:
        raise CheckpointError(f"{path} does not hold weights as save_weights writes them ({error!r})") from error
    return arrays


def _unpack(values: np.ndarray, bits: np.ndarray, length: int) -> np.ndarray:
    if bits.shape[-1] != -(-length // 8):
        raise ValueError(f"{bits.shape[-1]} bytes of bits for {length} entries")
    mask = np.unpackbits(bits, axis=-1, count=length).astype(bool)
    if values.shape != (mask.sum(),):
        raise ValueError(f"values of shape {values.shape} for {mask.sum()} bits")
    full = np.zeros(mask.shape, values.dtype)
    full[mask] = values
    return full


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise MissingExtraError("safetensors", "export") from error
    return safetensors
