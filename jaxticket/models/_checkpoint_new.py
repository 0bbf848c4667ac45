"""New folders of transformers, with weights as they are before training."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxticket import _safetensors, files
from jaxticket._safetensors import Stored
from jaxticket.errors import InputError
from jaxticket.models import _checkpoint
from jaxticket.models._checkpoint import CONFIG, SINGLE, Checkpoint, read_checkpoint
from jaxticket.models._checkpoint_write import METADATA, write_blocks, write_outer
from jaxticket.models._families import family
from jaxticket.models._settings import Settings
from jaxticket.typing import Key


def new_checkpoint(folder: str | os.PathLike[str], config: Mapping[str, Any], key: Key) -> Checkpoint:
    """Draw the parameters of a network that transformers knows, and write them into a new folder, in float32.

    To train a network from the start and keep it where transformers finds it: train `checkpoint.load()`, and pass the
    result to `write_checkpoint`. Weights are drawn as by the `init` of `checkpoint.model`.

    Args:
      folder: the new folder; it is whole or absent.
      config: the content of config.json, as transformers writes it: `model_type` and the sizes. See `read_checkpoint`
        for the networks.
      key: decides the weights.

    Returns:
      A Checkpoint.

    Raises:
      InputError: a config that is not JSON.
      CheckpointError: a network or a setting that is not known, a folder that exists or cannot be written.

    References:
      Wolf et al., Transformers: State-of-the-Art Natural Language Processing, 2020, arXiv:1910.03771.

    Examples:
      >>> import jax, tempfile
      >>> sizes = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16, "vocab_size": 50}
      >>> with tempfile.TemporaryDirectory() as place:
      ...     checkpoint = new_checkpoint(f"{place}/gpt", {"model_type": "gpt2", **sizes}, jax.random.key(0))
      ...     read_checkpoint(f"{place}/gpt").blocks
      ('block1', 'block2')
    """
    folder = pathlib.Path(folder)
    try:
        text = json.dumps(config, indent=2)
    except (TypeError, ValueError) as error:
        raise InputError(f"config is not JSON ({error}); pass texts, numbers, lists and dicts") from error
    network = family(Settings(dict(config), "config"))
    planned = {
        name: Stored(folder / SINGLE, np.dtype(np.float32), shape, 0)
        for name, shape in _checkpoint.tensor_shapes(folder, network).items()
    }
    checkpoint = _checkpoint.open_family(folder, config, network, planned)
    params = checkpoint.model.init(key)[0]
    with files.new_folder(folder.absolute()) as new:
        places = _safetensors.create(new / SINGLE, planned, METADATA)
        write_blocks(places, checkpoint.layout, params["blocks"].items())
        write_outer(places, checkpoint.layout, params)
        files.write_text(new / CONFIG, text + "\n")
    return read_checkpoint(folder)
