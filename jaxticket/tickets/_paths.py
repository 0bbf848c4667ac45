"""Paths of arrays in their containers, as a saved directory writes them, looks them up and rebuilds from them."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from jaxticket import _tree
from jaxticket.errors import CheckpointError, InputError, NoMatchError
from jaxticket.typing import PyTree

Numbered = tuple[str, dict[str, Any]]  # an entry of a record, and the number of its array


def step_of(key: Any) -> list[Any]:
    """Return a step of a key path as JSON: an index into a sequence, or the name of a dict entry or attribute."""
    if isinstance(key, jax.tree_util.SequenceKey):
        return ["index", key.idx]
    name = getattr(key, "key", getattr(key, "name", None))
    return ["name", name if isinstance(name, int) else str(name)]


def rebuild(pairs: list[tuple[dict[str, Any], Any]], depth: int = 0) -> PyTree:
    """Return nested dicts and lists from the paths of their leaves; the record's checks bound their depth."""
    if len(pairs) == 1 and len(pairs[0][0]["path"]) == depth:
        return pairs[0][1]
    children: dict[Any, list[tuple[dict[str, Any], Any]]] = {}
    for entry, leaf in pairs:
        children.setdefault(entry["path"][depth][1], []).append((entry, leaf))
    built = {name: rebuild(members, depth + 1) for name, members in children.items()}
    return list(built.values()) if pairs[0][0]["path"][depth][0] == "index" else built


def rename(entries: list[dict[str, Any]], names: Mapping[str, str | None]) -> list[dict[str, Any] | None]:
    """Return the entries of a record with other paths, None for those that are left out.

    Args:
      entries: the entries.
      names: a run of names in a path -> the run that stands in `like` in its place, or None. The longest fits first.

    Raises:
      NoMatchError: a run that is in no path.
    """
    used = set()

    def fit(entry: dict[str, Any]) -> dict[str, Any] | None:
        steps = [str(value) for _, value in entry["path"]]
        for run in sorted(names, key=len, reverse=True):
            width = run.count("/") + 1
            starts = [i for i in range(len(steps)) if "/".join(steps[i : i + width]) == run]
            if not starts:
                continue
            used.add(run)
            new = names[run]
            if new is None:
                return None
            inside = [["name", part] for part in new.split("/")]
            return {**entry, "path": [*entry["path"][: starts[0]], *inside, *entry["path"][starts[0] + width :]]}
        return entry

    renamed = [fit(entry) for entry in entries]
    if unused := sorted(set(names) - used):
        paths = sorted({"/".join(str(value) for _, value in entry["path"]) for entry in entries})
        raise NoMatchError(f"rename: {unused} is in no saved path; there are {_tree.shorten(paths)}")
    return renamed


def numbers_of(path: pathlib.Path, tree: str, numbered: list[Numbered], like: PyTree) -> list[str]:
    """Return the number of the saved array for each leaf of `like`, which is matched by its path in any order."""
    try:
        wanted = {
            _steps(map(step_of, keys)): (list(leaf.shape), str(leaf.dtype))
            for keys, leaf in jax.tree_util.tree_flatten_with_path(jax.eval_shape(lambda: like))[0]
        }
    except TypeError as error:
        raise InputError(f"like.{tree} has leaves that are not arrays ({first_line(error)})") from error
    numbers = {_steps(entry["path"]): index for index, entry in numbered if "dtype" in entry}
    saved = {_steps(entry["path"]): (entry["shape"], entry["dtype"]) for _, entry in numbered if "dtype" in entry}
    for steps in [*wanted, *saved]:
        if wanted.get(steps) != saved.get(steps):
            raise CheckpointError(
                f"{path}: {'/'.join([tree, *steps])} is {_describe(saved.get(steps))} in the checkpoint, but "
                f"{_describe(wanted.get(steps))} in like; load without like to see what was saved"
            )
    return [numbers[steps] for steps in wanted]


def _steps(path: Iterable[list[Any]]) -> tuple[str, ...]:
    """Return a path without the kinds of its containers: a list may come back as a tuple, a dict as a NamedTuple."""
    return tuple(str(value) for _, value in path)


def spread(name: str, shardings: PyTree, template: PyTree) -> list[Any]:
    """Return a sharding for each array of the template, of which `shardings` is a prefix."""
    try:
        return jax.tree.leaves(jax.tree.broadcast(shardings, template, is_leaf=lambda x: x is None))
    except ValueError as error:
        raise InputError(f"shardings.{name} is not a prefix of the saved pytree ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _describe(leaf: tuple[list[int], str] | None) -> str:
    return "absent" if leaf is None else f"{leaf[1]}{leaf[0]}"
