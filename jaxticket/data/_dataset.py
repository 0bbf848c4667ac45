"""Three splits that never mix, and the seeded ways to make them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxticket.errors import InputError

Arrays = tuple[np.ndarray, np.ndarray]  # (examples, ...) values and (examples,) integer labels


class Split(NamedTuple):
    """Examples with their labels."""

    x: jax.Array  # (examples, ...), float32
    y: jax.Array  # (examples,), int32


class Dataset(NamedTuple):
    """Train, validation and test examples. All choices are made on validation; test is only reported."""

    train: Split
    validation: Split
    test: Split


def stratified(x: np.ndarray, y: np.ndarray, *, seed: int, validation: int, test: int) -> Dataset:
    """Split examples so that each class has its share of every split, to within one example.

    Inputs are shifted and scaled by the mean and standard deviation of all training values, or of each channel where
    `x` is (examples, height, width, channels). Equal seeds give equal splits.

    Args:
      x: (examples, ...) values.
      y: (examples,) integer labels.
      seed: decides the split of each example.
      validation: the number of validation examples.
      test: the number of test examples; the others are for training.

    Returns:
      A Dataset.

    Raises:
      InputError: no example left for training, a negative size, or `x` and `y` of different lengths.

    Examples:
      >>> import numpy as np
      >>> data = stratified(np.arange(20.0), np.arange(20) % 2, seed=0, validation=4, test=6)
      >>> [split.y.tolist().count(0) for split in data]
      [5, 2, 3]
    """
    _check_lengths("x", x, "y", y)
    _check_sizes(len(y), validation=validation, test=test)
    order = _interleave(y, np.random.default_rng(seed))
    test_rows, validation_rows, train_rows = np.split(order, [test, test + validation])
    return _normalise(
        (x[train_rows], y[train_rows]), (x[validation_rows], y[validation_rows]), (x[test_rows], y[test_rows])
    )


def carve_validation(train: Arrays, test: Arrays, *, seed: int, validation: int) -> Dataset:
    """Return the official splits of a data set, with some of its training examples moved to validation.

    Validation holds each class in its share, to within one example. The choice depends on `seed` alone, and no test
    example is ever moved. Inputs are normalised as in `stratified`, by the remaining training examples.

    Args:
      train: a pair of (examples, ...) values and (examples,) integer labels.
      test: a pair of the same kind.
      seed: decides which examples are for validation.
      validation: the number of validation examples.

    Returns:
      A Dataset.

    Raises:
      InputError: a negative size, nothing left to train on, or values and labels of different lengths.

    Examples:
      >>> import numpy as np
      >>> x, y = np.arange(20.0), np.arange(20) % 2
      >>> data = carve_validation((x, y), (x[:6], y[:6]), seed=0, validation=4)
      >>> [len(split.y) for split in data]
      [16, 4, 6]
    """
    for name, (x, y) in (("train", train), ("test", test)):
        _check_lengths(f"{name}[0]", x, f"{name}[1]", y)
    x, y = train
    train_rows, validation_rows = carve_rows(y, seed=seed, validation=validation)
    return _normalise((x[train_rows], y[train_rows]), (x[validation_rows], y[validation_rows]), test)


def carve_rows(y: np.ndarray, *, seed: int, validation: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on and those for validation, as `carve_validation` does, of examples with labels y."""
    _check_sizes(len(y), validation=validation)
    validation_rows, train_rows = np.split(_interleave(y, np.random.default_rng(seed)), [validation])
    return train_rows, validation_rows


def limit(dataset: Dataset, examples: int, *, seed: int) -> Dataset:
    """Return the data set with at most `examples` training examples, each class in its share to within one example.

    Validation, test and the normalisation stay as they are. Equal seeds choose the same examples, of which fewer
    `examples` are a part.

    Args:
      dataset: the data set to shorten.
      examples: the largest number of training examples.
      seed: decides which examples stay.

    Returns:
      A Dataset.

    Raises:
      InputError: fewer than one example.

    Examples:
      >>> import numpy as np
      >>> data = stratified(np.arange(20.0), np.arange(20) % 2, seed=0, validation=4, test=6)
      >>> limit(data, 4, seed=0).train.y.tolist().count(0)
      2
    """
    if examples < 1:
        raise InputError(f"examples={examples} must be at least 1")
    if examples >= len(dataset.train.y):
        return dataset
    rows = _interleave(np.asarray(dataset.train.y), np.random.default_rng(seed))[:examples]
    return dataset._replace(train=Split(dataset.train.x[rows], dataset.train.y[rows]))


def _check_lengths(x_name: str, x: np.ndarray, y_name: str, y: np.ndarray) -> None:
    if len(x) != len(y):
        raise InputError(f"{x_name} holds {len(x)} examples and {y_name} {len(y)} labels; the numbers must be equal")


def _check_sizes(examples: int, **sizes: int) -> None:
    for name, value in sizes.items():
        if value < 0:
            raise InputError(f"{name}={value} must not be negative")
    if sum(sizes.values()) >= examples:
        given = " and ".join(f"{name}={value}" for name, value in sizes.items())
        raise InputError(f"{given} leave nothing of {examples} examples to train on; make them smaller")


def _normalise(train: Arrays, validation: Arrays, test: Arrays) -> Dataset:
    """Normalise all three by the statistics of the first, in floating point as wide as the values' (bytes: float32)."""
    x, _ = train
    axes = tuple(range(x.ndim - 1)) if x.ndim == 4 else None
    dtype = x.dtype if np.issubdtype(x.dtype, np.floating) else np.dtype(np.float32)
    deviation = np.asarray(x.std(axes), dtype)
    mean, deviation = np.asarray(x.mean(axes), dtype), np.where(deviation > 0, deviation, 1)

    def split(x: np.ndarray, y: np.ndarray) -> Split:
        return Split(jnp.asarray((x - mean) / deviation, jnp.float32), jnp.asarray(y, jnp.int32))

    return Dataset(split(*train), split(*validation), split(*test))


def _interleave(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random order in which any run of examples holds every class in its proportion, to within one."""
    shuffled = rng.permutation(len(y))
    by_class = shuffled[np.argsort(y[shuffled], kind="stable")]
    _, counts = np.unique(y, return_counts=True)
    place = np.concatenate([(np.arange(n) + rng.random()) / n for n in counts])
    return by_class[np.argsort(place, kind="stable")]
