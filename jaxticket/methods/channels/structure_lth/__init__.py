"""Structure-LTH: unstructured tickets made coarse enough for dense kernels (Chen et al., 2022).

`refill` keeps whole output channels, and `regroup` dense blocks of output channels × inputs. Both change a mask and
nothing else: by default the finished mask of each round of `imp` is made coarse, the weights are rewound, and the
ticket is trained once. With `in_each_round` a search prunes the coarse masks further.

References:
  Chen et al., `Coarsening the Granularity: Towards Structurally Sparse Lottery Tickets
  <https://arxiv.org/abs/2202.04736>`_, 2022
"""

from jaxticket.methods.channels.structure_lth._partition import count_cut, partition
from jaxticket.methods.channels.structure_lth._refill import in_each_round, refill
from jaxticket.methods.channels.structure_lth._regroup import Block, arrange, find_blocks, regroup

__all__ = [
    "Block",
    "arrange",
    "count_cut",
    "find_blocks",
    "in_each_round",
    "partition",
    "refill",
    "regroup",
]
