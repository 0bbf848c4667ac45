"""Folders of transformers as models and parameters, a block at a time."""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _safetensors, _tree
from jaxticket._safetensors import Stored
from jaxticket.errors import CheckpointError, InputError
from jaxticket.models import _tensors
from jaxticket.models._families import Family, family
from jaxticket.models._model import Model
from jaxticket.models._settings import Settings
from jaxticket.models._tensors import Shape, Tensor
from jaxticket.typing import Params, Stages

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
# Norms of the first BERT, whose names transformers still reads.
_OLD = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
_FOREIGN = (LookupError, ValueError, TypeError, AttributeError, RecursionError)


@dataclasses.dataclass(frozen=True)
class Part:
    """A block, or what lies outside the blocks: tensors by their names in the files, and the shapes of its leaves."""

    tensors: tuple[Tensor, ...]
    shapes: Mapping[str, Shape]  # by the paths of leaves

    def load(self, stored: Mapping[str, Stored]) -> Params:
        """Read the leaves."""
        leaves: dict[str, np.ndarray] = {}
        for tensor in self.tensors:
            leaves |= tensor.unpack(_safetensors.read(stored[tensor.name]), self.shapes)
        return _tensors.nest(leaves)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The tensors of a network in files."""

    stored: Mapping[str, Stored]  # the place of each tensor, by its name in the files
    outer: Part
    blocks: Mapping[str, Part]
    tied: Mapping[str, str]  # tensors that are copies of another: name -> name of the other


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A folder of transformers, of which only the headers were read; `read_checkpoint` makes it.

    Parameters are numpy arrays of the dtypes in the files.

    Attributes:
      folder: the folder.
      config: the content of its config.json.
      model: the network. `model.stages` are its steps, for a block at a time.
      layout: the tensors in the files.
    """

    folder: pathlib.Path
    config: Mapping[str, Any] = dataclasses.field(repr=False)
    model: Model = dataclasses.field(repr=False)
    layout: Layout = dataclasses.field(repr=False)

    @property
    def stages(self) -> Stages:
        """The steps of the network."""
        assert self.model.stages is not None  # all networks of `FAMILIES` have them
        return self.model.stages

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of the blocks, from the first on: "block1", "block2" and so on."""
        return tuple(self.layout.blocks)

    def load_outer(self) -> Params:
        """Read the parameters outside the blocks, which `model.stages.embed` and `.head` take."""
        return self.layout.outer.load(self.layout.stored)

    def load_block(self, name: str) -> Params:
        """Read the parameters of a block, which `model.stages.block` takes.

        Raises InputError for a name that is not in `blocks`, CheckpointError for a file that changed.
        """
        if name not in self.layout.blocks:
            raise InputError(f"name={name!r} is no block of {self.folder}; blocks: {_tree.shorten([*self.blocks])}")
        return self.layout.blocks[name].load(self.layout.stored)

    def load(self) -> Params:
        """Read all parameters, for `model.apply`."""
        return {**self.load_outer(), "blocks": {name: self.load_block(name) for name in self.blocks}}


def read_checkpoint(folder: str | os.PathLike[str]) -> Checkpoint:
    """Read a language model that transformers saved: a folder of config.json and files of safetensors.

    BERT, GPT-2, Llama, Mistral, Qwen2, Qwen3 and Gemma are known (`model_type` in config.json). BERT is read without
    its pooler and heads, as `models.bert`. Only the headers of the files are read here; `load`, `load_outer` and
    `load_block` of the result read parameters, so that a network can be larger than the memory. Kernels are (inputs,
    outputs) and have heads apart, as in `models.gpt` and `models.decoder`. Nothing in the folder is executed.

    Args:
      folder: the folder, such as `AutoModelForCausalLM.from_pretrained(name).save_pretrained(folder)` writes it.

    Returns:
      A Checkpoint.

    Raises:
      CheckpointError: a file that is missing or damaged, a network or a setting that is not known, a tensor that is
        missing, superfluous, or of another shape than config.json says.

    References:
      Wolf et al., Transformers: State-of-the-Art Natural Language Processing, 2020, arXiv:1910.03771.

    Examples:
      >>> read_checkpoint("nowhere")
      Traceback (most recent call last):
          ...
      jaxticket.errors.CheckpointError: nowhere/config.json cannot be read (No such file or directory); ...
    """
    folder = pathlib.Path(folder)
    config = _read_json(folder / CONFIG)
    return open_family(folder, config, family(Settings(config, str(folder / CONFIG))), read_headers(folder))


def read_headers(folder: pathlib.Path) -> dict[str, Stored]:
    """Return the tensors in the files of a folder, in their order. Raises CheckpointError as `read_checkpoint` does."""
    if (folder / SINGLE).is_file() and not (folder / INDEX).exists():
        return _safetensors.read_header(folder / SINGLE)[0]
    if not (folder / INDEX).is_file():
        raise CheckpointError(
            f"{folder} has neither {SINGLE} nor {INDEX}; have transformers write them: model.save_pretrained(folder)"
        )
    places = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places or not all(map(_is_file_name, places.values())):
        raise CheckpointError(f"{folder / INDEX}: weight_map must hold names of tensors and of files; restore it")
    stored: dict[str, Stored] = {}
    for file in sorted(set(places.values())):
        stored |= _safetensors.read_header(folder / file)[0]
    for name, file in places.items():
        if name not in stored or stored[name].file.name != file:
            raise CheckpointError(f"{folder / INDEX}: {file} does not hold {name!r}; restore the file")
    return stored


def open_family(
    folder: pathlib.Path, config: Mapping[str, Any], network: Family, stored: Mapping[str, Stored]
) -> Checkpoint:
    """Return the checkpoint whose tensors are those of a network. Raises CheckpointError where they are not."""
    names, layers = network.names, network.layers
    if layers > len(stored):
        raise CheckpointError(f"{folder} holds {len(stored)} tensors, too few for {layers} blocks; correct {CONFIG}")
    outer, block = _leaf_shapes(folder, network)

    def part(tensors: tuple[Tensor, ...], shapes: Mapping[str, Shape], prefix: str = "") -> Part:
        present = _present(tensors, shapes)
        found = [tensor._replace(name=_find(stored, names.prefix, prefix + tensor.name)) for tensor in present]
        return Part(tuple(found), shapes)

    try:
        whole = part(names.outer, outer)
        parts = {f"block{index + 1}": part(names.block, block, names.blocks.format(index)) for index in range(layers)}
        tensors = {tensor.name: tensor.shape(p.shapes) for p in (whole, *parts.values()) for tensor in p.tensors}
        tied = {
            name: _find(stored, names.prefix, other)
            for name, other in names.tied.items()
            if name in stored and name not in tensors
        }
        _check_tensors(stored, tensors | {name: tensors[other] for name, other in tied.items()}, names.others)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    return Checkpoint(folder, config, network.make(layers=layers), Layout(stored, whole, parts, tied))


def tensor_shapes(folder: pathlib.Path, network: Family) -> dict[str, Shape]:
    """Return the shapes of the tensors that transformers writes for a network, by their names."""
    names, (outer, block) = network.names, _leaf_shapes(folder, network)
    shapes = {tensor.name: tensor.shape(outer) for tensor in _present(names.outer, outer)}
    for index in range(network.layers):
        prefix = names.blocks.format(index)
        shapes |= {prefix + tensor.name: tensor.shape(block) for tensor in _present(names.block, block)}
    return shapes


def _leaf_shapes(folder: pathlib.Path, network: Family) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Return the shapes of the leaves outside the blocks and of those in a block, by their paths."""
    try:
        shapes = jax.eval_shape(network.make(layers=1).init, jax.random.key(0))[0]
    except (ValueError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{folder / CONFIG} describes no network ({error!s:.200}); correct its sizes") from error
    outer = {name: part for name, part in shapes.items() if name != "blocks"}
    return _tensors.flatten(outer), _tensors.flatten(shapes["blocks"]["block1"])


def _present(tensors: Sequence[Tensor], shapes: Mapping[str, Shape]) -> list[Tensor]:
    """Return the tensors that a network with these leaves has: not each has biases."""
    return [tensor for tensor in tensors if tensor.leaves[0] in shapes]


def _is_file_name(name: Any) -> bool:
    """Whether this is the name of a file in the folder itself."""
    return isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*\.safetensors", name) is not None


def _find(stored: Mapping[str, Stored], prefix: str, name: str) -> str:
    """Return the name under which a file has a tensor."""
    for spelling in _spellings(prefix, name):
        if spelling in stored:
            return spelling
    raise CheckpointError(f"the tensor {name!r} is missing; restore its file, or correct {CONFIG}")


def _spellings(prefix: str, name: str) -> Iterator[str]:
    for plain in (name, name.removeprefix(prefix)):
        yield plain
        for new, old in _OLD.items():
            if plain.endswith(new):
                yield plain.removesuffix(new) + old


def _check_tensors(stored: Mapping[str, Stored], wanted: Mapping[str, Shape], others: str) -> None:
    for name, tensor in stored.items():
        if name not in wanted:
            if not re.fullmatch(others, name):
                raise CheckpointError(
                    f"the tensor {name!r} belongs to no network of this kind; correct model_type in {CONFIG}, or save "
                    "the plain network, without adapters or further heads"
                )
        elif tensor.shape != wanted[name]:
            raise CheckpointError(
                f"the tensor {name!r} has shape {tensor.shape}, and {wanted[name]} by {CONFIG}; correct one of them"
            )
        elif not jnp.issubdtype(tensor.dtype, jnp.floating):
            raise CheckpointError(f"the tensor {name!r} has dtype {tensor.dtype}; save the network in floats")


def _read_json(file: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        fix = "name a folder that transformers saved"
        raise CheckpointError(f"{file} cannot be read ({error.strerror or error}); {fix}") from error
    except _FOREIGN as error:
        raise CheckpointError(f"{file} is not JSON ({error!r:.200}); restore it") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no settings by name; restore it")
    return content
