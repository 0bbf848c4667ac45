"""Strings of a Reber grammar, valid and invalid, as tokens: a task that a network solves by remembering."""

import random
import string
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from jaxticket._checks import check_count
from jaxticket.data._dataset import Dataset, Split
from jaxticket.errors import InputError

_START, _END = 1, 7
_EDGES = {  # state -> letter -> next state; B comes first
    1: {"T": 2, "P": 3},
    2: {"S": 2, "X": 4},
    3: {"T": 3, "V": 5},
    4: {"X": 3, "S": 6},
    5: {"P": 4, "V": 6},
    6: {"E": _END},
}
_LETTERS = "PSTVX"  # those that may be exchanged: all but the first and the last
_OTHERS = [letter for letter in string.ascii_uppercase if letter not in "BE"]
_SHORTEST = 11
_TRIES = 1000  # a string, before there are taken to be too few


def reber(*, seed: int, train: int = 3500, validation: int = 500, test: int = 1000, longest: int = 50) -> Dataset:
    """Draw different strings, half of which are valid in the Reber grammar, with their labels.

    Strings have 11 letters or more, as ASCII codes with zeros after the end: (examples, longest) int32. Labels are 1
    for valid strings and 0 for others. An invalid string is a valid one whose letters P, S, T, V and X are exchanged:
    permuted in one half of the strings, any of A to Z but B and E in the other. So do the published strings look
    (Darji, "Investigating Sparsity in Recurrent Neural Networks", 2021), whose generator is not public. Valid and
    invalid strings are equally long, so that a network that counts letters learns nothing.

    Args:
      seed: decides the strings.
      train: the number of training examples.
      validation: the number of validation examples.
      test: the number of test examples.
      longest: the letters of the longest string, 15 or more.

    Returns:
      A Dataset. No string is in two splits, or twice in one.

    Raises:
      InputError: a split without examples, `longest` below 15, or more strings than there are.

    Examples:
      >>> data = reber(seed=0, train=100, validation=10, test=10)
      >>> data.train.x.shape, int(data.train.y.sum())
      ((100, 50), 50)
      >>> "".join(map(chr, data.train.x[0])).rstrip(chr(0))
      'BTSSSSSXXTVVE'
    """
    check_count(1, train=train, validation=validation, test=test)
    check_count(15, longest=longest)
    rng = random.Random(seed)
    drawn, splits = _strings(rng, longest), []
    for count in (train, validation, test):
        strings = [next(drawn) for _ in range(count)]
        rng.shuffle(strings)
        x = np.zeros((count, longest), np.int32)
        for row, (letters, _) in enumerate(strings):
            x[row, : len(letters)] = list(letters.encode())
        splits.append(Split(jnp.asarray(x), jnp.asarray([int(valid) for _, valid in strings], jnp.int32)))
    return Dataset(*splits)


def is_reber(letters: str) -> bool:
    """Whether a string is valid in the Reber grammar (Reber, 1967).

    Args:
      letters: the string, from B to E.

    Examples:
      >>> is_reber("BTSSXXTTVVE"), is_reber("BTSXE")
      (True, False)
    """
    state: int | None = _START if letters.startswith("B") else None
    for letter in letters[1:]:
        state = None if state is None else _EDGES.get(state, {}).get(letter)
    return state == _END


def _strings(rng: random.Random, longest: int) -> Iterator[tuple[str, bool]]:
    """Yield different strings, valid and invalid in turn; the lengths of both are alike."""
    seen: set[str] = set()
    while True:
        for _ in range(_TRIES):
            valid = _walk(rng)
            invalid = _exchange(rng, valid)
            if _SHORTEST <= len(valid) <= longest and not {valid, invalid} & seen and not is_reber(invalid):
                break
        else:
            raise InputError(
                f"longest={longest}: {len(seen):,} strings were drawn, and hardly any other is as short; "
                "allow longer ones, or ask for fewer"
            )
        seen |= {valid, invalid}
        yield from ((valid, True), (invalid, False))


def _walk(rng: random.Random) -> str:
    letters, state = "B", _START
    while state != _END:
        letter = rng.choice(list(_EDGES[state]))
        letters, state = letters + letter, _EDGES[state][letter]
    return letters


def _exchange(rng: random.Random, letters: str) -> str:
    """Return the string with other letters for P, S, T, V and X."""
    among = list(_LETTERS) if rng.random() < 0.5 else _OTHERS
    return letters.translate(str.maketrans(_LETTERS, "".join(rng.sample(among, len(_LETTERS)))))
