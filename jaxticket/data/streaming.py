"""Sets that do not fit on the device: batches from a random-access source, in a seeded order that can be resumed."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxticket.data._extras import needs
from jaxticket.errors import InputError
from jaxticket.typing import PyTree

if TYPE_CHECKING:
    import grain

_AHEAD = 8  # batches: each may hold hundreds of large images

Transform = Callable[[PyTree, np.random.Generator], PyTree]


def stream(
    source: Sequence[PyTree], *, batch_size: int, seed: int, transform: Transform | None = None
) -> "grain.DatasetIterator[PyTree]":
    """An endless iterator over batches: the examples of each epoch in another order, which `seed` decides.

    `source` has a length and gives the i-th example, a pytree of arrays, as `tfds_source` and `ImageFolder` do.
    `transform(example, rng)` brings them to one shape, with a generator seeded by (seed, epoch, position). Batches
    have `batch_size` examples on a new first axis, and eight are read ahead by threads; what is left of an epoch's
    last batch is dropped. `get_state()` is JSON-able, and after `set_state` of it the same batches follow, also in
    another process. Raises InputError for a batch size below 1 or above the number of examples, MissingExtraError
    without grain.

    >>> batches = stream([{"x": np.float32(i)} for i in range(6)], batch_size=2, seed=0)
    >>> next(batches)["x"].shape
    (2,)
    """
    if not 1 <= batch_size <= len(source):
        raise InputError(f"batch_size={batch_size} must lie between 1 and the {len(source)} examples")
    with needs("grain"):
        import grain
    ahead = grain.ReadOptions(num_threads=_AHEAD, prefetch_buffer_size=_AHEAD)
    examples = grain.MapDataset.source(source).seed(seed).shuffle()
    if transform is not None:
        examples = examples.random_map(transform)
    return iter(examples.batch(batch_size, drop_remainder=True).repeat().to_iter_dataset(ahead))
