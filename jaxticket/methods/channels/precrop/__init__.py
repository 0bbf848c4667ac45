"""PreCrop: how many channels each group of an untrained network keeps, from the sizes of its layers alone.

What counts at initialisation is how dense each layer is, not which of its weights stay. With a random mask of density
p_l in each layer the objective of SynFlow is expected to shrink by the product of the p_l. PreCrop keeps the channels
that make this product largest within a budget of parameters or multiply-adds: an optimisation over one ratio a group,
without data or weights. The smaller network is dense from the first step.
"""

from jaxticket.methods.channels.precrop._densities import precrop_densities
from jaxticket.methods.channels.precrop._expected import precrop
from jaxticket.methods.channels.precrop._program import Cost

__all__ = ["Cost", "precrop", "precrop_densities"]
