"""The record of a saved directory, which is checked before anything that it promises is allocated.

Checksums find damage, but whoever wrote the directory can compute them too. Here nothing is trusted: names stay inside
the directory, types and paths are those that `archive.write` writes, and sizes are what the files can hold.
"""

import hashlib
import json
import math
import os
import pathlib
import reprlib
import stat
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket.errors import CheckpointError, InputError

FORMAT = "jaxticket.ticket"
VERSION = 1
RECORD = "record.json"

# The types of arrays: those of jax that the file format of orbax knows.
_INTEGERS = ("bool", "int2", "int4", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_FLOATS = ("bfloat16", "float16", "float32", "float64", "complex64", "complex128")
_SMALL = ("3m4", "4m3b11fnuz", "4m3fn", "4m3fnuz", "5m2", "5m2fnuz", "8m0fnu")
DTYPES = frozenset((*_INTEGERS, *_FLOATS, "float4_e2m1fn", *(f"float8_e{name}" for name in _SMALL)))
KEYS = {"threefry2x32": "key<fry>", "rbg": "key<rbg>", "unsafe_rbg": "key<urbg>"}
_KEY_WORDS = {"threefry2x32": 2, "rbg": 4, "unsafe_rbg": 4}  # of 32 bits

_LARGEST_RECORD = 2**26  # bytes: half a million arrays
_DEEPEST_PATH, _LONGEST_NAME, _MOST_AXES = 100, 4096, 32
# The best compression: zstd stores 128 KiB of one byte in four. (Values of arrays so small that they are stored
# in an index, which is compressed once more, weigh less than the description of each array.)
_BYTES_A_BYTE = 2**15


class _Wrong(Exception):
    """A fault of a record; `parse` adds the file and the fix."""


def parse(path: pathlib.Path) -> dict[str, Any]:
    """Return the record of the directory `path`, after checking that it has the form that `archive.write` writes.

    Raises CheckpointError, with the file, the value and the fix, if it is missing, foreign, newer than this library,
    altered, or holds what no saved ticket does.
    """
    file = path / RECORD
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such directory; pass one that jaxticket saved")
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path}: not a saved ticket ({RECORD} is not a file, but a link or a device)")
        if status.st_size > _LARGEST_RECORD:
            raise CheckpointError(f"{path}: not a saved ticket ({RECORD} has {status.st_size} bytes)")
        body = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: not a saved ticket ({RECORD}: {error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {RECORD} is damaged ({error}); restore it from a copy or delete it") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a saved ticket ({RECORD} is of another program)")
    version = body.get("version")
    if type(version) is int and version > VERSION:
        raise CheckpointError(f"{path}: format version {version} is not {VERSION}; upgrade jaxticket")
    try:
        _require(type(version) is int and version == VERSION, "version", version, str(VERSION))
        if body.pop("sha256", None) != self_digest(body):
            raise CheckpointError(f"{path}: {RECORD} is damaged (checksum); restore it from a copy or delete it")
        _check_fields(body)
        _check_files(body.get("files"))
        _check_entries(body.get("entries"))
    except (_Wrong, RecursionError) as error:
        raise CheckpointError(f"{file}: {error}; restore the directory from a copy or delete it") from error
    return body


def require_writable(entries: list[dict[str, Any]]) -> None:
    """Raise InputError for entries that `parse` would refuse, so that everything saved can be loaded."""
    try:
        _check_entries(entries)
    except _Wrong as error:
        raise InputError(f"such a pytree cannot be saved: {error}") from error


def self_digest(body: Mapping[str, Any]) -> str:
    """Return the checksum of a record, without its own."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def files(path: pathlib.Path) -> dict[str, int]:
    """Return the names of the files in the directory, and their bytes. Raises CheckpointError for links and devices."""
    sizes = {}
    for folder, folders, names in os.walk(path, onerror=_refuse):
        for name in (*folders, *names):
            entry = pathlib.Path(folder) / name
            status = entry.lstat()
            if stat.S_ISREG(status.st_mode):
                sizes[entry.relative_to(path).as_posix()] = status.st_size
            elif not stat.S_ISDIR(status.st_mode):
                raise CheckpointError(f"{entry} is a link or a device; a saved ticket has files only, copy them there")
    return sizes


def require_size(path: pathlib.Path, entries: list[dict[str, Any]], sizes: Mapping[str, int]) -> None:
    """Raise CheckpointError if the arrays would take more memory, once loaded, than the files can hold."""
    most = _BYTES_A_BYTE * sum(size for name, size in sizes.items() if name.startswith("arrays/"))
    total = 0
    for number, entry in enumerate(entries):
        if "dtype" in entry:
            shape, dtype = stored_as(entry)
            total += math.prod(shape) * dtype.itemsize
        if total > most:
            raise CheckpointError(
                f"{path / RECORD}: entries up to [{number}], of shape {reprlib.repr(entry['shape'])}, promise {total} "
                f"bytes, but the files can hold {most} at most; restore the directory from a copy or delete it"
            )


def require_stored(path: pathlib.Path, entries: list[dict[str, Any]], stored: Any) -> None:
    """Raise CheckpointError unless orbax's metadata describe the same arrays as the record.

    A chunk larger than its array is refused too, since it would be decoded whole.
    """
    wanted = {str(i): stored_as(e) for i, e in enumerate(entries) if "dtype" in e and 0 not in e["shape"]}
    if not isinstance(stored, dict):
        raise CheckpointError(f"{path}: its arrays cannot be read (orbax finds none); restore it from a copy")
    if set(stored) != set(wanted):
        odd = min(set(stored) ^ set(wanted))
        where = f"only in the {'files' if odd in stored else 'record'}"
        raise CheckpointError(f"{path}: array {odd!r} is {where}; restore the directory from a copy or delete it")
    for index, (shape, dtype) in wanted.items():
        actual = (getattr(stored[index], "shape", None), getattr(stored[index], "dtype", None))
        if actual != (shape, dtype):
            raise CheckpointError(
                f"{path}: array {index} is {actual[1]}{list(actual[0] or ())} in the files, but "
                f"{dtype}{list(shape)} in {RECORD}; restore the directory from a copy or delete it"
            )
        chunk = getattr(stored[index].storage_metadata, "chunk_shape", None) or ()
        if any(part > max(1, whole) for part, whole in zip(chunk, shape, strict=False)):
            raise CheckpointError(
                f"{path}: array {index} of shape {list(shape)} lies in chunks of {list(chunk)}; "
                "restore the directory from a copy or delete it"
            )


def require_wide(path: pathlib.Path, entries: list[dict[str, Any]]) -> None:
    """Raise CheckpointError for arrays of 64 bits where jax would read them as 32."""
    types = {entry["dtype"] for entry in entries if "dtype" in entry and "key_impl" not in entry}
    halved = sorted(name for name in types if jax.dtypes.canonicalize_dtype(name) != name)
    if halved:
        raise CheckpointError(
            f"{path} holds {halved[0]} arrays, which jax would read with half the bits; "
            'load it after jax.config.update("jax_enable_x64", True)'
        )


def stored_as(entry: Mapping[str, Any]) -> tuple[tuple[int, ...], Any]:
    """Return the shape and the type under which the array of an entry is stored: masks as bits, keys as words."""
    shape = tuple(entry["shape"])
    if "key_impl" in entry:
        return (*shape, _KEY_WORDS[entry["key_impl"]]), jnp.dtype("uint32")
    if entry["dtype"] == "bool":
        return (*shape[:-1], math.ceil(shape[-1] / 8) if shape else 1), jnp.dtype("uint8")
    return shape, jnp.dtype(entry["dtype"])


def _check_fields(body: Mapping[str, Any]) -> None:
    _require(_is_count(body.get("step")), "step", body.get("step"), "a whole number from 0 on, below 2^63")
    for name in ("meta", "versions", "density", "more"):
        _require(isinstance(body.get(name), dict), name, body.get(name), "an object")
    try:
        json.dumps(body["meta"], allow_nan=False)
    except ValueError as error:
        raise _Wrong("meta holds NaN or Infinity, but must be JSON") from error
    for name, value in body["versions"].items():
        _require(isinstance(value, str), f"versions[{_short(name)}]", value, "a string")
    for name, value in body["density"].items():
        _require(_is_share(value), f"density[{_short(name)}]", value, "how many weights are kept of how many")


def _check_files(names: Any) -> None:
    _require(isinstance(names, dict), "files", names, "an object of checksums")
    for name, digest in names.items():
        parts = name.split("/")
        inside = all(part not in ("", ".", "..") for part in parts) and "\0" not in name and _is_text(name)
        _require(inside, "files", name, "names of files inside the directory")
        _require(isinstance(digest, str), f"files[{_short(name)}]", digest, "a checksum")


def _check_entries(entries: Any) -> None:
    _require(isinstance(entries, list), "entries", entries, "a list")
    roots: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(entries):
        where = f"entries[{number}]"
        _require(isinstance(entry, dict), where, entry, "an object")
        tree, steps = entry.get("tree"), entry.get("path")
        _require(_is_text(tree), f"{where}.tree", tree, "a string")
        _require(isinstance(steps, list), f"{where}.path", steps, "a list of steps")
        _require(len(steps) <= _DEEPEST_PATH, f"{where}.path", steps, f"of at most {_DEEPEST_PATH} steps")
        for step in steps:
            _require(_is_step(step), f"{where}.path", step, 'steps such as ["name", "kernel"] and ["index", 0]')
        _place(f"{where}.path", steps, roots.setdefault(tree, {}))
        _check_leaf(where, entry)


def _check_leaf(where: str, entry: Mapping[str, Any]) -> None:
    if "empty" in entry:
        _require(entry["empty"] in ("none", "dict", "list"), f"{where}.empty", entry["empty"], "none, dict or list")
        _require(not {"shape", "dtype", "key_impl"} & set(entry), where, sorted(entry), "either empty or an array")
        return
    shape: Any = entry.get("shape")
    dtype = entry.get("dtype")
    fits = isinstance(shape, list) and len(shape) <= _MOST_AXES and all(map(_is_count, shape))
    _require(fits, f"{where}.shape", shape, f"a list of at most {_MOST_AXES} whole numbers from 0 on")
    # An array without entries is made, not read; as numpy does, count its other axes.
    size = math.prod(filter(None, shape))
    _require(size < 2**59, f"{where}.shape", shape, "of an array that a machine can address")
    if "key_impl" in entry:
        impl = entry["key_impl"]
        _require(isinstance(impl, str) and impl in KEYS, f"{where}.key_impl", impl, f"one of {', '.join(KEYS)}")
        _require(dtype == KEYS[impl], f"{where}.dtype", dtype, KEYS[impl])
    else:
        _require(isinstance(dtype, str) and dtype in DTYPES, f"{where}.dtype", dtype, "a type of jax arrays")


def _place(where: str, steps: list[list[Any]], node: dict[str, Any]) -> None:
    """Put a path into the tree of those before it. No path comes twice, and no array is also a container."""
    for kind, value in steps:
        # Names of one dict are all strings or all numbers, or jax could not have sorted them.
        kind = f"{kind} {'string' if isinstance(value, str) else 'number'}"
        _require(node.setdefault("kind", kind) == kind, where, steps, "in a container of its kind, not in an array")
        children = node.setdefault("children", {})
        if value not in children and kind == "index number" and children:
            _require(value > next(reversed(children)), where, steps, "in order")
        node = children.setdefault(value, {})
    _require(not node, where, steps, "another path than those before it")
    node["kind"] = "array"


def _require(condition: bool, where: str, value: Any, must: str) -> None:
    if not condition:
        raise _Wrong(f"{where} is {_short(value)}, but must be {must}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_share(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_count(value.get("kept"))
        and _is_count(value.get("of"))
        and value["kept"] <= value["of"]
    )


def _is_text(value: Any) -> bool:
    """Return whether it is a string of sensible length that UTF-8 can write (JSON can spell halves of characters)."""
    return isinstance(value, str) and len(value) <= _LONGEST_NAME and not any("\ud800" <= c <= "\udfff" for c in value)


def _is_step(step: Any) -> bool:
    if not isinstance(step, list) or len(step) != 2:
        return False
    kind, value = step
    if kind == "index":
        return _is_count(value)
    return kind == "name" and (_is_text(value) or (isinstance(value, int) and abs(value) < 2**63))


def _short(value: Any) -> str:
    """Return any value in one line of a message."""
    return reprlib.repr(value)


def _refuse(error: OSError) -> Iterator[None]:
    raise CheckpointError(f"{error.filename} cannot be read ({error.strerror})") from error
