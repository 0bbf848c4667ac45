"""All networks of known coupling."""

from tests.structure.networks import (
    attention,
    axes,
    blocks,
    convolution,
    dense,
    flax_modules,
    other_modules,
    queries,
    recurrent,
    transformers,
)
from tests.structure.networks._base import Network

_MODULES = (
    dense, axes, convolution, blocks, attention, queries, transformers, recurrent, flax_modules, other_modules
)  # fmt: skip


def _of(module: object) -> list[Network]:
    values = [value if isinstance(value, tuple) else (value,) for value in vars(module).values()]
    return [x for value in values for x in ([value] if isinstance(value, Network) else value) if isinstance(x, Network)]


NETWORKS: tuple[Network, ...] = tuple(network for module in _MODULES for network in _of(module))
BY_NAME: dict[str, Network] = {network.name: network for network in NETWORKS}
