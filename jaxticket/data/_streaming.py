"""Sets that do not fit on the device: batches from a random-access source, in a seeded order that can be resumed.

Several processes read one order: each takes its part of every batch, so that what a step is trained on does not depend
on how many they are, and a saved state is of them all.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxticket.data._extras import needs
from jaxticket.errors import InputError
from jaxticket.typing import PyTree

if TYPE_CHECKING:
    import grain

_AHEAD = 8  # batches: each may hold hundreds of large images

Transform = Callable[[PyTree, np.random.Generator], PyTree]


class Part(NamedTuple):
    """Part `index` of every batch, of `count` equal ones."""

    index: int = 0  # type: ignore[assignment]  # the field, not the method of tuples
    count: int = 1  # type: ignore[assignment]


def stream(
    source: Sequence[PyTree], *, batch_size: int, seed: int, transform: Transform | None = None, part: Part = Part()
) -> "grain.DatasetIterator[PyTree]":
    """An endless iterator over batches: the examples of each epoch in another order, which `seed` decides.

    `source` has a length and gives the i-th example, a pytree of arrays, as `tfds_source` and `ImageFolder` do.
    `transform(example, rng)` brings them to one shape, with a generator seeded by (seed, epoch, position). Batches
    have `batch_size` examples on a new first axis, and eight are read ahead by threads; what is left of an epoch's
    last batch is dropped. Of each batch only `part` is read and returned: that of a process, whose order is that of all
    the others. `get_state()` is JSON-able and the same for every part; after `set_state` of it the same batches follow,
    also in another process, or in another number of them. Raises InputError for a batch size below 1 or above the
    number of examples and for a part that does not divide it, MissingExtraError without grain.

    >>> batches = stream([{"x": np.float32(i)} for i in range(6)], batch_size=2, seed=0)
    >>> next(batches)["x"].shape
    (2,)
    """
    if not 1 <= batch_size <= len(source):
        raise InputError(f"batch_size={batch_size} must lie between 1 and the {len(source)} examples")
    examples = _maps(source).seed(seed).shuffle()
    if transform is not None:
        examples = examples.random_map(transform)
    batches: grain.DatasetIterator[PyTree] = iter(
        _batches(examples, batch_size, part).repeat().to_iter_dataset(_ahead())
    )
    return batches


def one_pass(
    source: Sequence[PyTree],
    *,
    batch_size: int,
    transform: Callable[[PyTree], PyTree] = lambda example: example,
    part: Part = Part(),
) -> Iterator[tuple[PyTree, np.ndarray]]:
    """Each example once, in the order of the source: what is measured is measured on all of them, exactly.

    As `stream`, but `transform` takes the example alone, and the last batch is filled up with copies of the first
    example: beside each batch comes a bool array that is False for these. Raises InputError for a batch size below 1,
    an empty source and a part that does not divide the batch, MissingExtraError without grain.

    >>> [valid.tolist() for _, valid in one_pass([{"x": np.float32(i)} for i in range(3)], batch_size=2)]
    [[True, True], [True, False]]
    """
    if batch_size < 1 or not len(source):
        raise InputError(f"batch_size={batch_size} and the source of {len(source)} examples must both be at least 1")
    examples = _maps(range(-(-len(source) // batch_size) * batch_size))

    def example(row: Any) -> tuple[PyTree, np.bool]:
        valid = row < len(source)
        return transform(source[int(row) if valid else 0]), np.bool(valid)

    yield from _batches(examples.map(example), batch_size, part).to_iter_dataset(_ahead())


def _maps(source: Any) -> Any:
    with needs("grain"):
        import grain
    return grain.MapDataset.source(source)


def _ahead() -> Any:
    import grain

    return grain.ReadOptions(num_threads=_AHEAD, prefetch_buffer_size=_AHEAD)


def _batches(examples: Any, batch_size: int, part: Part) -> Any:
    """One part of every whole batch: of batches `part.count` times as small, every `part.count`-th."""
    if not 0 <= part.index < part.count or batch_size % part.count:
        raise InputError(f"{part}: the index must be below the count, which must divide batch_size={batch_size}")
    whole = len(examples) // batch_size
    return examples.batch(batch_size // part.count, drop_remainder=True)[part.index : whole * part.count : part.count]
