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
    products,
    queries,
    recurrent,
    streams,
    transformers,
)
from tests.structure.networks._base import Network

_MODULES = (
    dense,
    axes,
    streams,
    convolution,
    grouped,
    blocks,
    pixels,
    products,
    attention,
    queries,
    transformers,
    recurrent,
    flax_modules,
    other_modules,
)


def _networks_of(module: object) -> list[Network]:
    """Return a module's networks, also those in its tuples of networks."""
    values = [value if type(value) is tuple else (value,) for value in vars(module).values()]
    return [x for several in values for x in several if isinstance(x, Network)]


NETWORKS: tuple[Network, ...] = tuple(network for module in _MODULES for network in _networks_of(module))
