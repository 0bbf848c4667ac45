"""Choices of training examples: a subset is a mask over the training examples, so `masks` has its algebra."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket import files, masks
from jaxticket._checks import check_array, check_count, check_fraction, check_key, check_number, known
from jaxticket.errors import CheckpointError, InputError
from jaxticket.selection import select
from jaxticket.tickets._store import fingerprint
from jaxticket.typing import Key, PyTree

_VERSION = 1


def hardest(
    scores: jax.Array, size: int | float, *, labels: jax.Array | None = None, balance: float = 0.0
) -> jax.Array:
    """Choose the examples of the highest scores, to keep where data are abundant (Sorscher et al., 2022).

    Args:
      scores: (examples,), higher = harder; finite. Of equal scores the lower index is chosen.
      size: a count of examples (int), or a fraction of them (float in (0, 1], rounded half to even, at least one).
      labels: (examples,) integer classes, for `balance`.
      balance: of each class at least ⌊balance · size · (its share)⌋ are kept, its hardest; 0 lets the scores decide.

    Returns:
      A subset, (examples,) bool.

    Raises:
      InputError: a size out of range, scores that are not finite, balance without labels or of other shapes.

    Examples:
      >>> hardest(jnp.array([0.1, 0.9, 0.5, 0.7]), 2)
      Array([False,  True, False,  True], dtype=bool)
    """
    return _choose(scores, size, labels, balance)


def easiest(
    scores: jax.Array, size: int | float, *, labels: jax.Array | None = None, balance: float = 0.0
) -> jax.Array:
    """Choose the examples of the lowest scores, to keep where data are scarce (Sorscher et al., 2022).

    Args:
      scores: (examples,), higher = harder; finite. Of equal scores the lower index is chosen.
      size: a count of examples (int), or a fraction of them (float in (0, 1], rounded half to even, at least one).
      labels: (examples,) integer classes, for `balance`.
      balance: of each class at least ⌊balance · size · (its share)⌋ are kept, its easiest; 0 lets the scores decide.

    Returns:
      A subset, (examples,) bool.

    Raises:
      InputError: a size out of range, scores that are not finite, balance without labels or of other shapes.

    Examples:
      >>> easiest(jnp.array([0.1, 0.9, 0.5, 0.7]), 0.5)
      Array([ True, False,  True, False], dtype=bool)
    """
    _check_scores(scores)
    return _choose(-jnp.asarray(scores, jnp.float32), size, labels, balance)


def middle(
    scores: jax.Array,
    size: int | float,
    *,
    skip: int | float | None = None,
    labels: jax.Array | None = None,
    balance: float = 0.0,
) -> jax.Array:
    """Choose the hardest examples but for the `skip` hardest, which may be mislabelled (the offset of Data Diet, 2021).

    Args:
      scores: (examples,), higher = harder; finite. Of equal scores the lower index is chosen.
      size: a count of examples (int), or a fraction of them (float in (0, 1], rounded half to even, at least one).
      skip: a count or a fraction, as `size`, or 0; None leaves out as many at either end.
      labels: (examples,) integer classes, for `balance`.
      balance: as in `hardest`; of a class that lacks examples for its floor, all that `skip` leaves are kept.

    Returns:
      A subset, (examples,) bool.

    Raises:
      InputError: arguments that `hardest` rejects, or fewer than `size` examples left.

    Examples:
      >>> middle(jnp.array([0.1, 0.9, 0.5, 0.7]), 1, skip=1)
      Array([False, False, False,  True], dtype=bool)
    """
    _check_scores(scores)
    examples = len(scores)
    count = _count("size", size, examples)
    left_out = (examples - count) // 2 if skip is None else 0 if skip == 0 else _count("skip", skip, examples)
    if left_out + count > examples:
        raise InputError(f"skip={skip} and size={size} exceed the {examples} examples; make one smaller")
    extreme = hardest(scores, left_out) if left_out else jnp.zeros(examples, bool)
    return _choose(scores, count, labels, balance, among=~extreme)


def random_subset(
    examples: int, size: int | float, *, key: Key, labels: jax.Array | None = None, balance: float = 0.0
) -> jax.Array:
    """Choose examples uniformly without replacement: the control of every score.

    Args:
      examples: the number of examples to choose from.
      size: a count of examples (int), or a fraction of them (float in (0, 1], rounded half to even, at least one).
      key: draws the examples.
      labels: (examples,) integer classes, for `balance`.
      balance: of each class at least ⌊balance · size · (its share)⌋ are kept; 0 lets chance decide.

    Returns:
      A subset, (examples,) bool.

    Raises:
      InputError: a size out of range, balance without labels or of other shapes.

    Examples:
      >>> int(random_subset(10, 0.3, key=jax.random.key(0)).sum())
      3
    """
    check_key("key", key)
    check_count(1, examples=examples)
    return _choose(jax.random.uniform(key, (int(examples),)), size, labels, balance)


def save_subset(
    path: str | os.PathLike[str], subset: jax.Array, *, data: PyTree, provenance: Mapping[str, Any]
) -> None:
    """Write a subset as JSON: the rows kept, the number of examples, a fingerprint of the data, and the provenance.

    It makes the folder if need be. Of several processes the first writes, and the others wait for it.

    Args:
      path: the file to write.
      subset: (examples,) bool.
      data: the training examples that it selects from, arrays with examples first.
      provenance: JSON-able: the score, its network and seeds, the command.

    Raises:
      InputError: a subset of another length than the data, or provenance that is not JSON.
      CheckpointError: a file that cannot be written.
    """
    _check_subset("subset", subset)
    _check_length(subset, data)
    rows = np.flatnonzero(np.asarray(subset)).tolist()
    content = {"version": _VERSION, "examples": len(subset), "data": fingerprint(data), "provenance": dict(provenance)}
    try:
        text = json.dumps({**content, "rows": rows}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"provenance is not JSON ({error}); pass numbers, strings, lists and dicts of them") from error
    files.write_together(pathlib.Path(path), text + "\n")


def load_subset(path: str | os.PathLike[str], *, data: PyTree) -> tuple[jax.Array, dict[str, Any]]:
    """Read the subset that `save_subset` wrote, and its provenance.

    Args:
      path: the file to read.
      data: the training examples to select from.

    Returns:
      The subset, (examples,) bool, and the provenance.

    Raises:
      CheckpointError: a file that is missing or damaged, or that was made for other examples, since its rows would name
        others.
    """
    file = pathlib.Path(path)
    try:
        content = json.loads(file.read_text())
        examples, rows, provenance = content["examples"], content["rows"], dict(content["provenance"])
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']!r}")
        if not all(type(row) is int for row in [examples, *rows]) or rows != sorted({*rows}):
            raise ValueError("rows are not rising whole numbers")
        if rows and not 0 <= rows[0] <= rows[-1] < examples:
            raise ValueError(f"rows reach beyond {examples} examples")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{file} is not a readable subset ({error}); write it with save_subset") from error
    if content["data"] != fingerprint(data) or {len(leaf) for leaf in jax.tree.leaves(data)} != {examples}:
        raise CheckpointError(f"{file} was made for other training examples; pass those, in their order and values")
    return jnp.zeros(examples, bool).at[jnp.asarray(rows, jnp.int32)].set(True), provenance


def _choose(
    scores: jax.Array, size: int | float, labels: jax.Array | None, balance: float, among: jax.Array | None = None
) -> jax.Array:
    _check_scores(scores)
    check_fraction("balance", balance)
    examples = len(scores)
    count = _count("size", size, examples)
    if not balance:
        return select(scores, count / examples, mask=among)
    if labels is None:
        raise InputError(f"balance={balance} needs labels=, the class of each example")
    check_array("labels", labels, np.integer)
    if labels.shape != (examples,):
        raise InputError(f"labels have shape {labels.shape}, but scores {scores.shape}; pass one class an example")
    among = jnp.ones(examples, bool) if among is None else among
    floors = jnp.zeros(examples, bool)
    for label, members in zip(*np.unique(np.asarray(labels), return_counts=True), strict=True):
        of_class = among & (labels == label)
        floors |= select(scores, int(balance * count * int(members) / examples) / examples, mask=of_class)
    left = count - int(floors.sum())
    return masks.union(floors, select(scores, left / examples, mask=among & ~floors))


def _count(name: str, size: Any, examples: int) -> int:
    check_number(**{name: size})
    size = known(size)
    if isinstance(size, jax.core.Tracer):
        raise InputError(f"{name} is traced; pass a Python number: a subset is chosen between trainings")
    if isinstance(size, float | np.floating):
        if not 0 < size <= 1:
            raise InputError(f"{name}={size} is not a fraction in (0, 1]; pass one, or an int to count examples")
        return max(1, round(size * examples))
    if not 1 <= size <= examples:
        raise InputError(f"{name}={size} must lie between 1 and the {examples} examples, or be a fraction as a float")
    return int(size)


def _check_scores(scores: Any) -> None:
    check_array("scores", scores)
    if scores.ndim != 1 or not len(scores) or jnp.issubdtype(scores.dtype, jnp.complexfloating):
        raise InputError(f"scores are {scores.dtype} of shape {scores.shape}; pass one real number an example")
    if not isinstance(scores, jax.core.Tracer) and not np.isfinite(np.asarray(scores, np.float64)).all():
        at = int(np.flatnonzero(~np.isfinite(np.asarray(scores, np.float64)))[0])
        raise InputError(f"scores[{at}]={scores[at]} is not finite; give such examples a score of your own")


def _check_subset(name: str, subset: Any) -> None:
    check_array(name, subset, np.bool_)
    if subset.ndim != 1:
        raise InputError(f"{name} has shape {subset.shape}; pass one bool an example")


def _check_length(subset: jax.Array, data: PyTree) -> None:
    sizes = {len(leaf) for leaf in jax.tree.leaves(data)}
    if sizes != {len(subset)}:
        raise InputError(
            f"subset is of {len(subset)} examples, but data hold {sorted(sizes)}; pass the data that it was made for"
        )
