"""All networks of known coupling."""

from tests.structure.networks import (
    attention,
    axes,
    blocks,
    convolution,
    dense,
    flax_modules,
    grouped,
    other_modules,
    pixels,
    queries,
    recurrent,
    transformers,
)
from tests.structure.networks._base import Network

_MODULES = (
    dense,
    axes,
    convolution,
    grouped,
    blocks,
    pixels,
    attention,
    queries,
    transformers,
    recurrent,
    flax_modules,
    other_modules,
)


def _of(module: object) -> list[Network]:
    """Return a module's networks, also those in its tuples of networks."""
    found: list[Network] = []
    for value in vars(module).values():
        several = value if type(value) is tuple else (value,)
        found += [x for x in several if isinstance(x, Network)]
    return found


NETWORKS: tuple[Network, ...] = tuple(network for module in _MODULES for network in _of(module))
