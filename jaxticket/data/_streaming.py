"""Sets that do not fit on the device: batches from a random-access source, in a seeded order that can be resumed.

Several processes read one order: each takes its part of every batch. So the batch of a step does not depend on the
number of processes, and a saved state holds for all of them.
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
    """Return an endless iterator over batches, which reads the examples of each epoch in another seeded order.

    Eight batches are read ahead by threads; the rest of an epoch that does not fill a batch is dropped. `get_state()`
    is JSON-able and the same for every part. After `set_state` of it the same batches follow, also in another process,
    or in another number of them.

    Args:
      source: has a length and gives the i-th example, a pytree of arrays, as `tfds_source` and `ImageFolder` do.
      batch_size: the number of examples on a new first axis.
      seed: decides the orders.
      transform: transform(example, rng) brings examples to one shape, with a generator seeded by (seed, epoch,
        position).
      part: the part of each batch that is read and returned, that of one process; all processes share one order.

    Returns:
      An iterator over pytrees of arrays.

    Raises:
      InputError: a batch size below 1 or above the number of examples, or a part that does not divide it.
      MissingExtraError: grain is absent.

    Examples:
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
    """Return an iterator over each example once, in the order of the source, for exact measurements on all of them.

    The last batch is filled up with copies of the first example.

    Args:
      source: has a length and gives the i-th example, a pytree of arrays.
      batch_size: the number of examples on a new first axis.
      transform: example -> example, brings examples to one shape.
      part: the part of each batch that is read and returned, as in `stream`.

    Returns:
      An iterator over pairs: a batch, and a bool array that is False for the copies.

    Raises:
      InputError: a batch size below 1, an empty source, or a part that does not divide the batch.
      MissingExtraError: grain is absent.

    Examples:
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
    """Return one part of every whole batch: of batches `part.count` times as small, every `part.count`-th."""
    if not 0 <= part.index < part.count or batch_size % part.count:
        raise InputError(f"{part}: the index must be below the count, which must divide batch_size={batch_size}")
    whole = len(examples) // batch_size
    return examples.batch(batch_size // part.count, drop_remainder=True)[part.index : whole * part.count : part.count]
