"""Parameters back into folders that transformers loads, a block at a time."""

import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _processes, _safetensors, _tree, files
from jaxticket._checks import check_count
from jaxticket._safetensors import Stored
from jaxticket.errors import InputError
from jaxticket.models._checkpoint import INDEX, SINGLE, Checkpoint, Layout, Part
from jaxticket.typing import Params

_BESIDE = (".json", ".txt", ".model", ".jinja", ".tiktoken")  # configuration and tokenizers, and no other weights
METADATA = {"format": "pt"}  # transformers asks for it


def write_checkpoint(
    folder: str | os.PathLike[str],
    checkpoint: Checkpoint,
    blocks: Iterable[tuple[str, Params]],
    *,
    outer: Params | None = None,
    shard_bytes: int | None = None,
) -> None:
    """Write changed parameters of a checkpoint into a new folder, from which transformers loads them.

    The folder has the names, shapes and dtypes of the checkpoint, and its configuration and tokenizer. Each block is
    written when `blocks` yields it, so that one of them is in memory at a time. Tensors that the network does not use,
    such as a pooler, are copied. All is written under another name first, so the folder is whole or absent.

    Args:
      folder: the new folder.
      checkpoint: what the parameters were read from, by `read_checkpoint`.
      blocks: the name and the parameters of each block, in any order: `params["blocks"].items()`, or a generator. They
        are converted to the dtypes of the files.
      outer: parameters, of which those outside the blocks are written; None copies those of the checkpoint.
      shard_bytes: the largest size of a file in bytes, unless a single tensor is larger; None: the files of the
        checkpoint.

    Raises:
      InputError: blocks that are missing, repeated or not those of the checkpoint; leaves of other names or shapes, or
        that are not floats.
      CheckpointError: a folder that exists or cannot be written, a checkpoint that changed since.

    Examples:
      >>> import jaxticket as jt
      >>> def prune(checkpoint):
      ...     for name in checkpoint.blocks:
      ...         params = checkpoint.load_block(name)
      ...         mask = jt.select(jt.scores.magnitude(params), 0.5, where=jt.filters.weights())
      ...         yield name, jt.apply_mask(params, mask)
      >>> def prune_folder(source, target):
      ...     checkpoint = read_checkpoint(source)
      ...     write_checkpoint(target, checkpoint, prune(checkpoint))
    """
    if shard_bytes is not None:
        check_count(1, shard_bytes=shard_bytes)
    if isinstance(blocks, Mapping):
        raise InputError("blocks is a mapping; pass its pairs of names and parameters: blocks.items()")
    layout = checkpoint.layout
    with files.new_folder(pathlib.Path(folder).absolute()) as new:
        places: dict[str, Stored] = {}
        for name, shard in _shards(layout.stored, shard_bytes).items():
            places |= _safetensors.create(new / name, shard, METADATA)
        written = write_blocks(places, layout, blocks)
        if outer is not None:
            written |= write_outer(places, layout, outer)
        for name in layout.stored.keys() - written:
            _safetensors.write(places[name], _safetensors.read(layout.stored[name]))
        _write_beside(new, checkpoint.folder, places)


def _shards(stored: Mapping[str, Stored], limit: int | None) -> dict[str, dict[str, Stored]]:
    """Return the files to write, each with its tensors."""
    if limit is None:
        by_file = itertools.groupby(stored.items(), key=lambda item: item[1].file.name)
        return {name: dict(tensors) for name, tensors in by_file}
    shards: list[dict[str, Stored]] = [{}]
    for name, tensor in stored.items():
        if shards[-1] and sum(other.size for other in shards[-1].values()) + tensor.size > limit:
            shards.append({})
        shards[-1][name] = tensor
    if len(shards) == 1:
        return {SINGLE: shards[0]}
    return {f"model-{i:05}-of-{len(shards):05}.safetensors": shard for i, shard in enumerate(shards, 1)}


def write_blocks(places: Mapping[str, Stored], layout: Layout, blocks: Iterable[tuple[str, Params]]) -> set[str]:
    """Write the tensors of all blocks. Return their names."""
    remaining = dict(layout.blocks)
    written: set[str] = set()
    for name, params in blocks:
        if name not in remaining:
            raise InputError(f"blocks: {name!r} comes twice or is unknown; expected {_tree.shorten([*remaining])}")
        written |= _write_part(f"blocks: {name}", places, layout.tied, remaining.pop(name), params)
        del params  # before the next block is made
    if remaining:
        raise InputError(f"blocks lacks {_tree.shorten([*remaining])}; pass each block of the checkpoint")
    return written


def write_outer(places: Mapping[str, Stored], layout: Layout, params: Params) -> set[str]:
    """Write the tensors outside the blocks. Return their names."""
    outside = {name: part for name, part in params.items() if name != "blocks"}
    return _write_part("outer", places, layout.tied, layout.outer, outside)


def _write_part(
    argument: str, places: Mapping[str, Stored], tied: Mapping[str, str], part: Part, params: Params
) -> set[str]:
    """Write the tensors of a part, and their copies. Return their names."""
    leaves = _leaves(argument, part, params)
    written: set[str] = set()
    for tensor in part.tensors:
        packed = tensor.pack({path: _on_host(leaves[path]) for path in tensor.leaves})
        for name in (tensor.name, *(copy for copy, original in tied.items() if original == tensor.name)):
            _safetensors.write(places[name], packed.astype(places[name].dtype, copy=False))
            written.add(name)
    return written


def _leaves(argument: str, part: Part, params: Params) -> dict[str, jax.Array | np.ndarray]:
    """Return the leaves of a part by their paths, after a check that they are its own."""
    leaves = dict(zip(_tree.leaves(_tree.names(params)), _tree.leaves(params), strict=True))
    for path in leaves.keys() ^ part.shapes.keys():
        what = "is unknown" if path in leaves else "is missing"
        raise InputError(f"{argument}: the leaf {path!r} {what}; pass the tree that the checkpoint loads")
    for path, leaf in leaves.items():
        shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
        if shape != part.shapes[path] or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise InputError(
                f"{argument}: {path!r} is {dtype} of shape {shape}; pass floats of shape {part.shapes[path]}"
            )
    return leaves


def _on_host(leaf: jax.Array | np.ndarray) -> np.ndarray:
    return _processes.on_host(leaf) if isinstance(leaf, jax.Array) else leaf


def _write_beside(new: pathlib.Path, old: pathlib.Path, places: Mapping[str, Stored]) -> None:
    """Write the index of several files, and copy what else transformers reads."""
    files_of = {name: tensor.file.name for name, tensor in sorted(places.items())}
    with files.writing(new, fix=files.MAKE_ROOM):
        for file in old.iterdir():
            if file.suffix in _BESIDE and file.is_file() and file.name != INDEX:
                shutil.copyfile(file, new / file.name)
    if set(files_of.values()) != {SINGLE}:
        index = {"metadata": {"total_size": sum(tensor.size for tensor in places.values())}, "weight_map": files_of}
        files.write_text(new / INDEX, json.dumps(index, indent=2) + "\n")
