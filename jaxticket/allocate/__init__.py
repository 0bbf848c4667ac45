"""How a density is shared among leaves: one Python float a leaf, k / size with whole k, None where not sparsified.

From shapes alone (`uniform`, `uniform_plus`, `erdos_renyi`, `erk`, `rules`, `for_flops`), from what was scored or
selected (`from_scores`, `from_mask`), or from how the outputs change (`rate_distortion`). Everything here decides on
the host; what reads only shapes takes tracers and `jax.ShapeDtypeStruct`s too.
"""

from jaxticket.allocate._distortion import rate_distortion
from jaxticket.allocate._measured import from_mask, from_scores
from jaxticket.allocate._shapes import erdos_renyi, erk, for_flops, rules, uniform, uniform_plus

__all__ = [
    "erdos_renyi",
    "erk",
    "for_flops",
    "from_mask",
    "from_scores",
    "rate_distortion",
    "rules",
    "uniform",
    "uniform_plus",
]
