"""What somebody does who changes a saved ticket and knows how it is checked."""

import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxticket.tickets import Ticket, _archive


def ticket() -> Ticket:
    """A small one with everything that a record can tell of: containers, None, masks, keys, arrays without entries."""
    params = {
        "layers": [{"kernel": jnp.arange(15.0).reshape(5, 3), "bias": jnp.zeros(3)}, {"kernel": jnp.ones((3, 2))}]
    }
    mask = {
        "layers": [{"kernel": jnp.arange(15).reshape(5, 3) % 2 == 0, "bias": None}, {"kernel": jnp.ones((3, 1), bool)}]
    }
    state = {"rng": jax.random.key(3), "none": None, "nothing": jnp.zeros((0, 4)), "mean": jnp.ones((3,), jnp.bfloat16)}
    return Ticket(params, mask, 100, state, (), {"seed": 1})


def entry_of(record: dict[str, Any], tree: str, *names: str | int) -> dict[str, Any]:
    """The entry of the array at that path."""
    return next(e for e in record["entries"] if e["tree"] == tree and [v for _, v in e["path"]] == list(names))


def change(folder: pathlib.Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edits the record in place, and makes its checksum fit."""
    record = json.loads((folder / _archive.RECORD).read_text())
    edit(record)
    seal(folder, record)


def seal(folder: pathlib.Path, record: dict[str, Any]) -> None:
    """Writes a record that tells its own checksum."""
    record.pop("sha256", None)
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    (folder / _archive.RECORD).write_text(json.dumps({**record, "sha256": digest}))


def seal_files(folder: pathlib.Path) -> None:
    """Makes the checksums of the record fit the files as they are now."""
    found = [file for file in folder.rglob("*") if file.is_file() and file.name != _archive.RECORD]
    digests = {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in found}
    change(folder, lambda record: record.update(files=digests))
