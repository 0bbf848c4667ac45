"""The random numbers of data pruning: a key for each purpose."""

from typing import NamedTuple

import jax

from jaxticket.typing import Key


class _Keys(NamedTuple):
    """The keys of a run, one for each purpose."""

    cells: Key
    networks: Key
    teacher: Key
    prototypes: Key
    memorisation: Key


def keys(seed: int) -> _Keys:
    """Return the keys of the run with this seed, all but that of the split of the data."""
    key = jax.random.key(seed)
    # Split in four, as it was before there was a fifth: a split in five need not begin with the same keys.
    return _Keys(*jax.random.split(key, 4), jax.random.fold_in(key, 4))


def cell_keys(run: int, seed: int) -> jax.Array:
    """Return the keys of a seed for weights, order of examples and random subsets, in the run with the seed `run`.

    They are the same for all scores, which compare in pairs.
    """
    return jax.random.split(jax.random.fold_in(keys(run).cells, seed), 3)
