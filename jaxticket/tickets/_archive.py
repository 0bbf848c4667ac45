"""Directories of named pytrees, which are written whole or not at all, and checked byte by byte when read.

`record.json` describes each array and carries the checksum of every file; `arrays/` is an orbax checkpoint of the
numbered arrays. Containers are not stored, only the path of each array. So nothing is unpickled, and any pytree that
jax knows can be saved; without a template its containers come back as dicts and lists.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _processes, _tree, files, masks
from jaxticket.errors import CheckpointError, InputError, JaxticketError, MissingExtraError
from jaxticket.tickets import _record
from jaxticket.tickets._paths import Numbered, first_line, numbers_of, rebuild, rename, spread, step_of
from jaxticket.tickets._record import FORMAT, RECORD, VERSION
from jaxticket.typing import PyTree


def write(path: str | os.PathLike[str], trees: Mapping[str, PyTree], record: Mapping[str, Any]) -> None:
    """Save pytrees of jax arrays under their names, with a JSON-able record, in the new directory `path`.

    Everything is first written into a temporary directory beside `path`, which is then renamed, so that a process that
    dies leaves no incomplete checkpoint. Bool arrays take one bit an entry. In a run of several processes all of them
    call it, with a `path` that all see, and each writes its shards. Raises CheckpointError if `path` exists or cannot
    be written, InputError for trees that `read` would refuse, and MissingExtraError without orbax.
    """
    path = pathlib.Path(path).absolute()
    entries, arrays = [], {}
    for name, tree in trees.items():
        for keys, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_end)[0]:
            entry, stored = _encode(leaf)
            entries.append({"tree": name, "path": [step_of(key) for key in keys], **entry})
            if stored is not None and stored.size:  # orbax refuses empty arrays; their shape is enough
                arrays[str(len(entries) - 1)] = stored
    _record.require_writable(entries)
    _orbax()
    with files.new_folder(path) as directory:
        _processes.no_failure(_failure(path, lambda: _orbax().save(directory / "arrays", arrays)))
        body = {"format": FORMAT, "version": VERSION, **record, "entries": entries}
        _processes.on_first(lambda: _attempt(path, lambda: _write_record(directory, body)))


def as_arrays(name: str, tree: PyTree) -> PyTree:
    """Return the pytree with jax arrays for its leaves. Raises InputError, which names the leaf, for other leaves."""

    def convert(keys: tuple[Any, ...], leaf: Any) -> jax.Array:
        try:
            return jnp.asarray(leaf)
        except TypeError as error:
            kind = type(leaf).__name__
            raise InputError(f"{name}/{_tree.path_name(keys)} is a {kind}, not an array; save arrays only") from error

    return jax.tree_util.tree_map_with_path(convert, tree)


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the record of a saved directory, after checking that its text and every file are unchanged.

    Nothing in it is executed, and nothing of the size that it promises is allocated. Raises CheckpointError, with the
    file, the value and the fix, if the directory is missing, foreign, newer than this library, truncated or altered, or
    if its record holds what no saved ticket does.
    """
    path = pathlib.Path(path).absolute()
    body = _record.parse(path)
    sizes = _record.files(path)
    for name, digest in body["files"].items():
        if name not in sizes or _digest_of(path / name) != digest:
            what = "differs from what was saved" if name in sizes else "is missing"
            raise CheckpointError(f"{path}: {name} {what}; restore it from a copy or delete the directory")
    _record.require_size(path, body["entries"], sizes)
    return body


def read(
    path: str | os.PathLike[str],
    *,
    like: Mapping[str, PyTree] | None = None,
    shardings: Mapping[str, PyTree] | None = None,
    names: Mapping[str, str | None] | None = None,
) -> tuple[dict[str, PyTree], dict[str, Any]]:
    """Return the pytrees of a saved directory by name, and its record.

    `like` maps names to pytrees of arrays (or of jax.ShapeDtypeStruct) whose containers, shapes and dtypes the result
    has; names that it lacks come back as dicts and lists. `shardings` maps names to pytrees of shardings, or to
    prefixes of such; other arrays go to the default device. `names` renames saved paths, as `rename` does. Raises
    CheckpointError as `read_record` does, if the files hold other arrays than the record, and if the saved arrays are
    not those of `like`.
    """
    path = pathlib.Path(path).absolute()
    like, shardings = like or {}, shardings or {}
    record = read_record(path)
    by_tree: dict[str, list[Numbered]] = {name: [] for name in like}
    for index, entry in enumerate(rename(record["entries"], names or {})):
        if entry is None:
            continue
        by_tree.setdefault(entry["tree"], []).append((str(index), entry))
    # The number of the array for each leaf of a template.
    numbers = {name: numbers_of(path, name, by_tree[name], tree) for name, tree in like.items()}
    places: dict[str, Any] = {}
    for name, numbered in by_tree.items():
        if shardings.get(name) is not None:
            arrays = numbers.get(name, [index for index, entry in numbered if "dtype" in entry])
            template = like[name] if name in like else rebuild([(entry, index) for index, entry in numbered])
            places.update(zip(arrays, spread(name, shardings[name], template), strict=True))
    with _foreign_errors(path):
        stored = _orbax().metadata(path / "arrays").metadata if _holds_arrays(record) else {}
    _record.require_stored(path, record["entries"], stored)
    _record.require_wide(path, record["entries"])
    with _foreign_errors(path):
        leaves = _read_arrays(path, record["entries"], places)
    trees = {}
    for name, numbered in by_tree.items():
        if name in like:
            trees[name] = jax.tree.unflatten(jax.tree.structure(like[name]), [leaves[i] for i in numbers[name]])
        else:
            trees[name] = rebuild([(entry, leaves[index]) for index, entry in numbered])
    return trees, record


def _orbax() -> Any:
    try:
        from orbax.checkpoint import v1
    except ImportError as error:
        raise MissingExtraError("orbax-checkpoint", "io") from error
    return v1


def _failure(path: pathlib.Path, act: Callable[[], None]) -> CheckpointError | None:
    """Act, and return the error of a folder that cannot be written."""
    try:
        act()
    except (OSError, ValueError) as error:  # tensorstore reports a full disk as a ValueError
        return CheckpointError(f"{path} cannot be written ({_reason(error)}); make room or choose another folder")
    return None


def _reason(error: OSError | ValueError) -> str:
    """Return the reason that the system gave; tensorstore hides its code in a long text."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return (error.strerror if isinstance(error, OSError) else code and os.strerror(int(code[1]))) or first_line(error)


def _attempt(path: pathlib.Path, act: Callable[[], Any]) -> None:
    if error := _failure(path, act):
        raise error


def _is_end(x: Any) -> bool:
    """Return whether it is None or an empty container: not a leaf to jax, but needed to rebuild without a template."""
    return x is None or (isinstance(x, dict | list | tuple) and not x)


def _encode(leaf: Any) -> tuple[dict[str, Any], Any]:
    """Return the record of a leaf, and the array to store for it."""
    if _is_end(leaf):
        return {"empty": "none" if leaf is None else "dict" if isinstance(leaf, dict) else "list"}, None
    entry: dict[str, Any] = {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return {**entry, "key_impl": str(jax.random.key_impl(leaf))}, _to_store(jax.random.key_data(leaf))
    return entry, _to_store(masks.pack(leaf).bits if leaf.dtype == bool else leaf)


def _to_store(stored: jax.Array) -> Any:
    """Return a numpy array where every process holds all of it, so that orbax lets one process write it."""
    return np.asarray(stored) if jax.process_count() > 1 and stored.is_fully_addressable else stored


def _read_arrays(path: pathlib.Path, entries: list[dict[str, Any]], places: Mapping[str, Any]) -> dict[str, Any]:
    """Return each leaf by its number. An array with a place is read straight onto it unless it must be decoded."""
    templates: dict[str, Any] = {}
    for index, entry in ((str(i), e) for i, e in enumerate(entries)):
        if "dtype" not in entry or 0 in entry["shape"]:
            continue
        shape, dtype = tuple(entry["shape"]), entry["dtype"]
        if dtype == "bool":
            packed = jax.eval_shape(masks.pack, jax.ShapeDtypeStruct(shape, bool))
            templates[index] = np.empty(packed.bits.shape, np.uint8)
        elif "key_impl" in entry:
            data = jax.eval_shape(lambda impl=entry["key_impl"]: jax.random.key_data(jax.random.key(0, impl=impl)))
            templates[index] = np.empty((*shape, *data.shape), data.dtype)
        elif index in places:
            templates[index] = jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=places[index])
        else:
            templates[index] = np.empty(shape, jnp.dtype(dtype))
    try:
        stored = _orbax().load(path / "arrays", templates)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its arrays cannot be read ({first_line(error)})") from error
    return {str(i): _decode(entry, stored.get(str(i)), places.get(str(i))) for i, entry in enumerate(entries)}


def _decode(entry: dict[str, Any], stored: Any, place: Any) -> Any:
    if "empty" in entry:
        return {"none": None, "dict": {}, "list": []}[entry["empty"]]
    if stored is None:
        leaf: Any = np.zeros(entry["shape"], jnp.dtype(entry["dtype"]))
    elif entry["dtype"] == "bool":
        leaf = masks.unpack(masks.PackedMask(jnp.asarray(stored), entry["shape"][-1] if entry["shape"] else None))
    elif "key_impl" in entry:
        leaf = jax.random.wrap_key_data(jnp.asarray(stored), impl=entry["key_impl"])
    else:
        leaf = stored
    return jnp.asarray(leaf) if place is None else jax.device_put(leaf, place)


def _holds_arrays(record: Mapping[str, Any]) -> bool:
    return any("dtype" in entry and 0 not in entry["shape"] for entry in record["entries"])


@contextlib.contextmanager
def _foreign_errors(path: pathlib.Path) -> Iterator[None]:
    """Turn every error that orbax raises for files that it cannot read into a CheckpointError."""
    try:
        yield
    except JaxticketError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: its arrays cannot be read ({first_line(error)})") from error


def _digests(directory: pathlib.Path) -> dict[str, str]:
    files = sorted(file for file in directory.rglob("*") if file.is_file() and file.name != RECORD)
    return {file.relative_to(directory).as_posix(): _digest_of(file) for file in files}


def _digest_of(file: pathlib.Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_record(directory: pathlib.Path, body: dict[str, Any]) -> None:
    body = {**body, "files": _digests(directory)}
    with (directory / RECORD).open("w") as stream:
        stream.write(json.dumps({**body, "sha256": _record.self_digest(body)}, indent=1))
        stream.flush()
        os.fsync(stream.fileno())
