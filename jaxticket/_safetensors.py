"""Files of safetensors, a tensor at a time: a header of JSON says where the bytes of each tensor lie.

The library safetensors reads and writes whole files, and these may be larger than the memory.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxticket import files
from jaxticket.errors import CheckpointError

DTYPES = {
    "BOOL": "bool",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
}
METADATA = "__metadata__"
_CODES = {name: code for code, name in DTYPES.items()}
_LONGEST = 100_000_000  # bytes of a header, as the format allows
_FOREIGN = (LookupError, ValueError, TypeError, AttributeError, RecursionError, OverflowError)


class Stored(NamedTuple):
    """A tensor in a file."""

    file: pathlib.Path
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int  # its first byte in the file

    @property
    def size(self) -> int:
        """The number of its bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: pathlib.Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """Return the tensors of a file by name, in the order of their bytes, and its metadata.

    Raises CheckpointError for a file that is missing, or whose header is not one or does not fit its length.
    """
    try:
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            end = os.fstat(content.fileno()).st_size
            text = content.read(length) if 8 + length <= min(end, _LONGEST) else b""
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror or error}); name a file of weights") from error
    try:
        header = json.loads(text)
        metadata = {str(name): str(value) for name, value in header.pop(METADATA, {}).items()}
        stored = {str(name): _parse(file, entry, start=8 + length, end=end) for name, entry in header.items()}
    except _FOREIGN as error:
        raise CheckpointError(f"{file} is not a whole file of safetensors ({error!r:.200}); restore it") from error
    return dict(sorted(stored.items(), key=lambda item: item[1].start)), metadata


def read(stored: Stored) -> np.ndarray:
    """Return a tensor. Raises CheckpointError for a file that was cut or removed since its header was read."""
    try:
        x = np.fromfile(stored.file, stored.dtype, math.prod(stored.shape), offset=stored.start)
        return x.reshape(stored.shape)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{stored.file} cannot be read ({error}); restore it") from error


def to_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a file with these arrays."""
    planned = {name: Stored(pathlib.Path(), x.dtype, x.shape, 0) for name, x in arrays.items()}
    header, _ = _header(planned, metadata)
    return header + b"".join(np.ascontiguousarray(x).tobytes() for x in arrays.values())


def create(file: pathlib.Path, tensors: Mapping[str, Stored], metadata: Mapping[str, str]) -> dict[str, Stored]:
    """Write the header of a new file with room for tensors of these dtypes and shapes, and return their places."""
    header, starts = _header(tensors, metadata)
    size = len(header) + sum(tensor.size for tensor in tensors.values())
    with files.writing(file, fix=files.MAKE_ROOM), file.open("wb") as content:
        content.write(header)
        content.truncate(size)
    return {name: tensor._replace(file=file, start=starts[name]) for name, tensor in tensors.items()}


def _header(tensors: Mapping[str, Stored], metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """Return the first bytes of a file with these tensors, and the place of each."""
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    starts, end = {}, 0
    for name, tensor in tensors.items():
        starts[name], last = end, end + tensor.size
        shape = list(tensor.shape)
        header[name] = {"dtype": _CODES[tensor.dtype.name], "shape": shape, "data_offsets": [end, last]}
        end = last
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors start at a multiple of 8
    return len(text).to_bytes(8, "little") + text, {name: 8 + len(text) + start for name, start in starts.items()}


def write(stored: Stored, x: np.ndarray) -> None:
    """Write a tensor of its dtype and shape into its place."""
    with files.writing(stored.file, fix=files.MAKE_ROOM), stored.file.open("r+b") as content:
        content.seek(stored.start)
        content.write(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)


def _parse(file: pathlib.Path, entry: Any, *, start: int, end: int) -> Stored:
    dtype = np.dtype(jnp.dtype(DTYPES[entry["dtype"]]))
    shape = tuple(entry["shape"])
    first, last = entry["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in (*shape, first, last)):
        raise ValueError(f"shape {shape}, offsets {first, last}")
    stored = Stored(file, dtype, shape, start + first)
    if last - first != stored.size or start + last > end:
        raise ValueError(f"bytes {first} to {last} for {dtype}{list(shape)}")
    return stored
