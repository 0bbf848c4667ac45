"""How a density is shared among leaves: one Python float a leaf, k / size with whole k, None where not sparsified.

From shapes alone (`uniform`, `uniform_plus`, `erdos_renyi`, `erk`, `rules`, `for_flops`), from what was scored or
selected (`from_scores`, `from_mask`), or from how the outputs change (`rate_distortion`). Everything here decides on
the host; what reads only shapes takes tracers and `jax.ShapeDtypeStruct`s too.
"""

from jaxticket.allocate.distortion import rate_distortion as rate_distortion
from jaxticket.allocate.measured import from_mask as from_mask
from jaxticket.allocate.measured import from_scores as from_scores
from jaxticket.allocate.shapes import erdos_renyi as erdos_renyi
from jaxticket.allocate.shapes import erk as erk
from jaxticket.allocate.shapes import for_flops as for_flops
from jaxticket.allocate.shapes import rules as rules
from jaxticket.allocate.shapes import uniform as uniform
from jaxticket.allocate.shapes import uniform_plus as uniform_plus
