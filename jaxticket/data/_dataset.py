"""Three splits that never mix, and the seeded way to make them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket.errors import InputError


class Split(NamedTuple):
    """Examples with their labels."""

    x: jax.Array  # (examples, ...), float32
    y: jax.Array  # (examples,), int32


class Dataset(NamedTuple):
    """Train, validation and test examples. Whatever is chosen is chosen on validation; test is only reported."""

    train: Split
    validation: Split
    test: Split


def stratified(x: np.ndarray, y: np.ndarray, *, seed: int, validation: int, test: int) -> Dataset:
    """Splits examples so that each class has its share of every split, to within one example.

    `x` is (examples, ...), `y` (examples,) integer labels; `validation` and `test` count examples, the others train.
    Inputs are shifted and scaled by the mean and standard deviation of all training values. Equal seeds give equal
    splits. Raises InputError if no example is left for training, or for a negative size.

    >>> import numpy as np
    >>> data = stratified(np.arange(20.0), np.arange(20) % 2, seed=0, validation=4, test=6)
    >>> [split.y.tolist().count(0) for split in data]
    [5, 2, 3]
    """
    for name, value in (("validation", validation), ("test", test)):
        if value < 0:
            raise InputError(f"{name}={value} must not be negative")
    if validation + test >= len(y):
        raise InputError(
            f"validation={validation} and test={test} leave nothing of {len(y)} examples to train on; make them smaller"
        )
    order = _interleaved(y, np.random.default_rng(seed))
    test_rows, validation_rows, train_rows = np.split(order, [test, test + validation])
    mean, deviation = x[train_rows].mean(), x[train_rows].std()

    def split(rows: np.ndarray) -> Split:
        scaled = (x[rows] - mean) / np.where(deviation > 0, deviation, 1)
        return Split(jnp.asarray(scaled, jnp.float32), jnp.asarray(y[rows], jnp.int32))

    return Dataset(split(train_rows), split(validation_rows), split(test_rows))


def _interleaved(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random order in which any run of examples holds every class in its proportion, to within one."""
    shuffled = rng.permutation(len(y))
    by_class = shuffled[np.argsort(y[shuffled], kind="stable")]
    _, counts = np.unique(y, return_counts=True)
    place = np.concatenate([(np.arange(n) + rng.random()) / n for n in counts])
    return by_class[np.argsort(place, kind="stable")]
