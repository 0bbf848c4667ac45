"""What is random in data pruning: a key for each purpose."""

from typing import NamedTuple

import jax

from experiments.studies.data_pruning.config import Config
from jaxticket.typing import Key


class _Keys(NamedTuple):
    """Each for a purpose of its own."""

    cells: Key
    networks: Key
    teacher: Key
    prototypes: Key
    memorisation: Key


def keys(config: Config) -> _Keys:
    """What is random in the run, but for the split of the data."""
    key = jax.random.key(config.seed)
    # Split in four, as it was before there was a fifth: a split in five need not begin with the same keys.
    return _Keys(*jax.random.split(key, 4), jax.random.fold_in(key, 4))


def cell_keys(config: Config, seed: int) -> jax.Array:
    """Of a seed: for weights, order of examples and random subsets. The same for all scores: they compare in pairs."""
    return jax.random.split(jax.random.fold_in(keys(config).cells, seed), 3)
