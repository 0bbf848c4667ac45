"""What to try on the loader, the rules and the command lines. Anything but the documented errors is a crash."""

import contextlib
import copy
import dataclasses
import io
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from hypothesis import strategies as st

from experiments import train
from experiments.configs import lenet_mnist5k
from experiments.runs import command_line
from experiments.studies.imp.config import Config, of_run
from jaxticket import _tree, allocate, filters, models, tickets
from jaxticket.errors import JaxticketError
from jaxticket.tickets import _archive
from tests.models import transcriptions
from tests.trust.tampering import seal, seal_files

WORDS = ["float32", "bool", "key<fry>", "threefry2x32", "none", "dict", "name", "index", "params", "mask", "../x", "/"]
NUMBERS = st.sampled_from([-1, 0, 1, 2**31, 2**63, 2**70, 10**400, 1.5, float("nan"), float("inf"), 1e308])
TEXT = st.text(max_size=8) | st.sampled_from([*WORDS, "\ud800", "\0", "x" * 5000])
LEAVES = st.none() | st.booleans() | st.integers() | NUMBERS | TEXT
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))
SYNTAX = st.text(alphabet="ab/01.*+?()[]{}|^$\\,:=!<>-#P_ ", max_size=24) | st.text(max_size=12)
PARAMS = {"a": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "b": [jnp.ones((4, 4)), None]}


class Target(NamedTuple):
    """What is tried (`attempt` takes one input and the folder of a saved ticket), and how often out of 20,000."""

    inputs: st.SearchStrategy[Any]
    attempt: Callable[[pathlib.Path, Any], None]
    share: int


@contextlib.contextmanager
def documented() -> Iterator[None]:
    """Lets the errors pass that users may meet: each names what is wrong, in so many words."""
    try:
        yield
    except JaxticketError as error:
        if not str(error) or len(str(error)) > 100_000:
            raise AssertionError(f"an error of {len(str(error))} characters") from error


def mutated_record(folder: pathlib.Path, edits: list[tuple[str, int, Any]]) -> None:
    """Parts of a record replaced, deleted, doubled or swapped, with checksums that fit."""
    original = (folder / _archive.RECORD).read_text()
    record = json.loads(original)
    _edit(record, edits)
    seal(folder, record)
    try:
        _load(folder)
    finally:
        (folder / _archive.RECORD).write_text(original)


def any_record(folder: pathlib.Path, record: Any) -> None:
    """A record of anything, under the names that a record has."""
    original = (folder / _archive.RECORD).read_text()
    if isinstance(record, dict):
        seal(folder, {"format": _archive.FORMAT, "version": _archive.VERSION, **record})
    else:
        (folder / _archive.RECORD).write_text(json.dumps(record))
    try:
        _load(folder)
    finally:
        (folder / _archive.RECORD).write_text(original)


def any_bytes(folder: pathlib.Path, data: bytes) -> None:
    """A record that may not even be text."""
    original = (folder / _archive.RECORD).read_text()
    (folder / _archive.RECORD).write_bytes(data)
    try:
        with documented():
            _archive.read_record(folder)
    finally:
        (folder / _archive.RECORD).write_text(original)


def damaged_file(folder: pathlib.Path, damage: tuple[int, str, int, bytes]) -> None:
    """One file of the ticket with bytes flipped, inserted or cut off, and checksums that fit."""
    which, kind, position, data = damage
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    file = files[which % len(files)]
    originals = {name: name.read_bytes() for name in (file, folder / _archive.RECORD)}
    content = originals[file]
    at = position % (len(content) + 1)
    if kind == "flip":
        content = content[:at] + bytes(a ^ b for a, b in zip(content[at:], data)) + content[at + len(data) :]
    elif kind == "insert":
        content = content[:at] + data + content[at:]
    else:
        content = content[:at]
    file.write_bytes(content)
    try:
        if file.name != _archive.RECORD:
            seal_files(folder)
        _load(folder)
    finally:
        for name, data in originals.items():
            name.write_bytes(data)


def rules(_: pathlib.Path, given: dict[str, Any]) -> None:
    """Regexes from paths to densities."""
    with documented():
        _tree.resolve(given, PARAMS)
    with documented():
        allocate.rules(PARAMS, given)
    for regex in given:
        with documented():
            filters.match(regex)(PARAMS)
        with documented():
            allocate.uniform(PARAMS, 0.5, where=filters.match(regex), dense=[regex])


def values(_: pathlib.Path, given: dict[str, Any]) -> None:
    """Fields of configurations."""
    with documented():
        config = Config(**given)
        config.hash()
        config.flags()


def stored_config(folder: pathlib.Path, given: Any) -> None:
    """The configuration that a run folder holds."""
    (folder.parent / "config.json").write_text(json.dumps(given))
    with documented():
        of_run(folder.parent)


def arguments(_: pathlib.Path, argv: list[str]) -> None:
    """Command lines."""
    with documented(), contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        command_line.training_config(Config(), argv, {"lenet_mnist5k": lenet_mnist5k}, description="")
    with documented(), contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        command_line.training_config(train.Config(), argv, {"lenet_mnist5k": lenet_mnist5k}, description="")


def changed_config(folder: pathlib.Path, edits: list[tuple[str, int, Any]]) -> None:
    """The configuration of a folder of transformers."""
    checkpoint = _checkpoint(folder)
    config = json.loads((checkpoint / "config.json").read_text())
    _edit(config, edits)
    _read(checkpoint / "config.json", json.dumps(config).encode())


def changed_index(folder: pathlib.Path, edits: list[tuple[str, int, Any]]) -> None:
    """The index of its files."""
    file = _checkpoint(folder) / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    _edit(index, edits)
    _read(file, json.dumps(index).encode())


def changed_header(folder: pathlib.Path, edits: list[tuple[str, int, Any]]) -> None:
    """The header of a file of weights."""
    file = _checkpoint(folder) / "model-00001-of-00002.safetensors"
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    _edit(header, edits)
    text = json.dumps(header).encode()
    _read(file, len(text).to_bytes(8, "little") + text + content[end:])


def _checkpoint(folder: pathlib.Path) -> pathlib.Path:
    """A folder of transformers beside the ticket."""
    made, config = folder.parent / "checkpoint", transcriptions.CONFIGS["llama"]
    return made if made.exists() else transcriptions.save(made, config, transcriptions.draw(config), shards=2)


def _read(file: pathlib.Path, content: bytes) -> None:
    """Reads the folder with another content of this file."""
    original = file.read_bytes()
    file.write_bytes(content)
    try:
        with documented():
            models.read_checkpoint(file.parent).load()
    finally:
        file.write_bytes(original)


def _edit(record: Any, edits: list[tuple[str, int, Any]]) -> None:
    for kind, position, value in edits:
        places = list(_places(record))
        if not places:
            return
        container, key = places[position % len(places)]
        other, other_key = places[(position * 7 + 1) % len(places)]
        if kind == "replace":
            container[key] = value
        elif kind == "delete":
            del container[key]
        elif kind == "swap":
            container[key], other[other_key] = copy.deepcopy((other[other_key], container[key]))
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))


def _load(folder: pathlib.Path) -> None:
    with documented():
        tickets.describe(folder)
        ticket = tickets.load(folder)
        jax.block_until_ready(ticket)
        tickets.rewind(ticket)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value: a container, and a key of it."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


_FIELDS = sorted(field.name for field in dataclasses.fields(Config))
_FLAGS = ["--" + name.replace("_", "-") for name in _FIELDS]
_EDIT = st.tuples(st.sampled_from(["replace", "replace", "delete", "double", "swap"]), st.integers(0, 10**6), JSON)
_EDITS = st.lists(_EDIT, min_size=1, max_size=3)
_VALUES = st.dictionaries(st.sampled_from(_FIELDS), LEAVES | st.lists(LEAVES, max_size=3).map(tuple), max_size=4)
_RECORD_FIELDS = st.sampled_from(["step", "meta", "versions", "density", "more", "entries", "files", "version"])
_ARGUMENT = st.sampled_from([*_FLAGS, "--preset", "--help", "--no-tensorboard", "lenet_mnist5k", "0.5,0.75"]) | TEXT

TARGETS = {
    "records, changed": Target(_EDITS, mutated_record, 3000),
    "records of anything": Target(JSON | st.dictionaries(_RECORD_FIELDS, JSON), any_record, 4000),
    "records of any bytes": Target(st.binary(max_size=64) | JSON.map(repr).map(str.encode), any_bytes, 3000),
    "files, damaged": Target(
        st.tuples(st.integers(0, 99), st.sampled_from(["flip", "insert", "cut"]), st.integers(0, 10**6), st.binary()),
        damaged_file,
        500,
    ),
    "rules": Target(st.dictionaries(SYNTAX, LEAVES, max_size=4), rules, 5000),
    "configurations": Target(_VALUES, values, 4000),
    "stored configurations": Target(JSON | _VALUES, stored_config, 2000),
    "configurations of transformers": Target(_EDITS, changed_config, 1000),
    "indices of transformers": Target(_EDITS, changed_index, 500),
    "headers of safetensors": Target(_EDITS, changed_header, 1500),
    "command lines": Target(st.lists(_ARGUMENT, max_size=6), arguments, 500),
}
