"""Directories that hold named pytrees: written whole or not at all, and checked byte by byte when read.

`record.json` says what each array is and carries the checksum of every file; `arrays/` is an orbax checkpoint of them,
numbered. Containers are not stored, only the path of each array, so that nothing is unpickled and any pytree that
jax knows can be saved; without a template they come back as dicts and lists.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import _tree, masks
from jaxticket.errors import CheckpointError, InputError, MissingExtraError
from jaxticket.typing import PyTree

FORMAT = "jaxticket.ticket"
VERSION = 1
RECORD = "record.json"
PARTIAL = ".partial"  # suffix of a directory that is still being written


def write(path: str | os.PathLike[str], trees: Mapping[str, PyTree], record: Mapping[str, Any]) -> None:
    """Saves pytrees of jax arrays under their names, with a JSON-able record, in the new directory `path`.

    Everything is first written into a temporary directory beside `path`, which is then renamed: a process that dies
    leaves no half a checkpoint. Bool arrays take one bit an entry. Raises CheckpointError if `path` exists or cannot
    be written, and MissingExtraError without orbax.
    """
    path = pathlib.Path(path).absolute()
    entries, arrays = [], {}
    for name, tree in trees.items():
        for keys, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_end)[0]:
            entry, stored = _encode(leaf)
            entries.append({"tree": name, "path": [_key(key) for key in keys], **entry})
            if stored is not None and stored.size:  # orbax refuses empty arrays; their shape says it all
                arrays[str(len(entries) - 1)] = stored
    with _new_directory(path) as directory:
        try:
            _orbax().save(directory / "arrays", arrays)
        except ValueError as error:  # how tensorstore reports a full disk
            raise CheckpointError(f"{path} cannot be written ({_first_line(error)})") from error
        body = {"format": FORMAT, "version": VERSION, **record, "entries": entries, "files": _digests(directory)}
        _write_text(directory / RECORD, json.dumps({**body, "sha256": _self_digest(body)}, indent=1))


def as_arrays(name: str, tree: PyTree) -> PyTree:
    """The pytree with jax arrays for its leaves. Raises InputError, naming the leaf, for what is no array."""

    def convert(keys: tuple[Any, ...], leaf: Any) -> jax.Array:
        try:
            return jnp.asarray(leaf)
        except TypeError as error:
            kind = type(leaf).__name__
            raise InputError(f"{name}/{_tree.path_name(keys)} is a {kind}, not an array; save arrays only") from error

    return jax.tree_util.tree_map_with_path(convert, tree)


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The record of a saved directory, after checking that its text and every file are what was written.

    Raises CheckpointError if the directory is missing, foreign, newer than this library, truncated or altered.
    """
    path = pathlib.Path(path).absolute()
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such directory; pass one that jaxticket saved")
    try:
        body = json.loads((path / RECORD).read_text())
    except OSError as error:
        raise CheckpointError(f"{path}: not a saved ticket ({RECORD}: {error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: {RECORD} is damaged ({error}); restore it from a copy or delete it") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a saved ticket ({RECORD} is of another program)")
    if not isinstance(body.get("version"), int) or body["version"] > VERSION:
        raise CheckpointError(f"{path}: format version {body.get('version')} is not {VERSION}; upgrade jaxticket")
    if body.pop("sha256", None) != _self_digest(body):
        raise CheckpointError(f"{path}: {RECORD} is damaged (checksum); restore it from a copy or delete the directory")
    found = _digests(path)
    for name, digest in body["files"].items():
        if found.get(name) != digest:
            what = "differs from what was saved" if name in found else "is missing"
            raise CheckpointError(f"{path}: {name} {what}; restore it from a copy or delete the directory")
    return body


def read(
    path: str | os.PathLike[str],
    *,
    like: Mapping[str, PyTree] | None = None,
    shardings: Mapping[str, PyTree] | None = None,
) -> tuple[dict[str, PyTree], dict[str, Any]]:
    """The pytrees of a saved directory by name, and its record.

    `like` maps names to pytrees of arrays (or of jax.ShapeDtypeStruct) whose containers, shapes and dtypes the result
    has; names that it lacks come back as dicts and lists. `shardings` maps names to pytrees of shardings, or to
    prefixes of such; other arrays go to the default device. Raises CheckpointError as `read_record` does, and if the
    saved arrays are not those of `like`.
    """
    path = pathlib.Path(path).absolute()
    record = read_record(path)
    by_tree: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for index, entry in enumerate(record["entries"]):
        by_tree.setdefault(entry["tree"], []).append((str(index), entry))
    places: dict[str, Any] = {}
    for name, found in by_tree.items():
        if like is not None and name in like:
            _check_like(path, name, found, like[name])
        if shardings is not None and shardings.get(name) is not None:
            template = like[name] if like is not None and name in like else _rebuild([(e, i) for i, e in found])
            targets = jax.tree.leaves(jax.tree.broadcast(shardings[name], template, is_leaf=lambda x: x is None))
            arrays = [index for index, entry in found if "dtype" in entry]
            places.update(zip(arrays, targets, strict=True))
    leaves = _read_arrays(path, record["entries"], places)
    trees = {}
    for name, found in by_tree.items():
        pairs = [(entry, leaves[index]) for index, entry in found]
        if like is not None and name in like:
            values = [leaf for entry, leaf in pairs if "dtype" in entry]
            trees[name] = jax.tree.unflatten(jax.tree.structure(like[name]), values)
        else:
            trees[name] = _rebuild(pairs)
    return trees, record


def remove_partial(directory: pathlib.Path) -> None:
    """Deletes what dead processes left half written in `directory`."""
    for path in directory.glob(f".*{PARTIAL}"):
        shutil.rmtree(path, ignore_errors=True)


def _orbax() -> Any:
    try:
        from orbax.checkpoint import v1
    except ImportError as error:
        raise MissingExtraError("orbax-checkpoint", "io") from error
    return v1


@contextlib.contextmanager
def _new_directory(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary directory that becomes `path` when the block ends, and vanishes if it raises."""
    _orbax()
    if path.exists():
        raise CheckpointError(f"{path} exists; delete it or save under another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent))
    except OSError as error:
        raise CheckpointError(f"{path.parent} cannot be written ({error.strerror})") from error
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        temporary.rename(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    """mkdtemp makes private directories; a checkpoint is as readable as any other new file."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _is_end(x: Any) -> bool:
    """None and empty containers are no leaves to jax, but a tree rebuilt without a template needs them."""
    return x is None or (isinstance(x, dict | list | tuple) and not x)


def _encode(leaf: Any) -> tuple[dict[str, Any], jax.Array | None]:
    """What to write about a leaf, and the array to store for it."""
    if _is_end(leaf):
        return {"empty": "none" if leaf is None else "dict" if isinstance(leaf, dict) else "list"}, None
    entry: dict[str, Any] = {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return {**entry, "key_impl": str(jax.random.key_impl(leaf))}, jax.random.key_data(leaf)
    return entry, masks.pack(leaf).bits if leaf.dtype == bool else leaf


def _read_arrays(path: pathlib.Path, entries: list[dict[str, Any]], places: Mapping[str, Any]) -> dict[str, Any]:
    """Each leaf by its number. An array with a place is read straight onto it unless it must be decoded first."""
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
        raise CheckpointError(f"{path}: its arrays cannot be read ({_first_line(error)})") from error
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


def _check_like(path: pathlib.Path, tree: str, found: list[tuple[str, dict[str, Any]]], like: PyTree) -> None:
    name_of = lambda path: "/".join([tree, *(str(value) for _, value in path)])
    wanted = {
        name_of(map(_key, keys)): (list(leaf.shape), str(leaf.dtype))
        for keys, leaf in jax.tree_util.tree_flatten_with_path(jax.eval_shape(lambda: like))[0]
    }
    saved = {name_of(entry["path"]): (entry["shape"], entry["dtype"]) for _, entry in found if "dtype" in entry}
    for name in [*wanted, *saved]:
        if wanted.get(name) != saved.get(name):
            raise CheckpointError(
                f"{path}: {name} is {_describe(saved.get(name))} in the checkpoint, but {_describe(wanted.get(name))} "
                "in like; load without like to see what was saved"
            )


def _describe(leaf: tuple[list[int], str] | None) -> str:
    return "absent" if leaf is None else f"{leaf[1]}{leaf[0]}"


def _key(key: Any) -> list[Any]:
    """A step of a key path as JSON: an index into a sequence, or the name of a dict entry or attribute."""
    if isinstance(key, jax.tree_util.SequenceKey):
        return ["index", key.idx]
    name = getattr(key, "key", getattr(key, "name", None))
    return ["name", name if isinstance(name, int) else str(name)]


def _rebuild(pairs: list[tuple[dict[str, Any], Any]], depth: int = 0) -> PyTree:
    """Nested dicts and lists from the paths of their leaves, which come in tree order."""
    if len(pairs) == 1 and len(pairs[0][0]["path"]) == depth:
        return pairs[0][1]
    children: dict[Any, list[tuple[dict[str, Any], Any]]] = {}
    for entry, leaf in pairs:
        children.setdefault(entry["path"][depth][1], []).append((entry, leaf))
    built = {name: _rebuild(members, depth + 1) for name, members in children.items()}
    return list(built.values()) if pairs[0][0]["path"][depth][0] == "index" else built


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _digests(directory: pathlib.Path) -> dict[str, str]:
    files = sorted(file for file in directory.rglob("*") if file.is_file() and file.name != RECORD)
    return {file.relative_to(directory).as_posix(): _sha256(file) for file in files}


def _sha256(file: pathlib.Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _self_digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _write_text(file: pathlib.Path, text: str) -> None:
    with file.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
