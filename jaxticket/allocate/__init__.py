"""Shares of a density among leaves: one Python float a leaf, k / size with whole k, None where not sparsified.

Leaves that `stacked=` declares hold several layers or experts. Each of these has its own density then, in an array that
broadcasts to the leaf.

`uniform`, `uniform_plus`, `erdos_renyi`, `erk`, `rules` and `for_flops` read shapes alone. `from_scores` and
`from_mask` read scores or masks, and `rate_distortion` the change of the outputs. Everything here decides on the host;
functions that read only shapes take tracers and `jax.ShapeDtypeStruct`s too.
"""

from jaxticket.allocate._distortion import rate_distortion
from jaxticket.allocate._flops import for_flops
from jaxticket.allocate._measured import from_mask, from_scores
from jaxticket.allocate._shapes import erdos_renyi, erk, rules, uniform, uniform_plus

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
