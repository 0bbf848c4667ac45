"""How masks start and evolve, and the optax transforms that train under them."""

from jaxticket.transforms.aliases import gradual as gradual
from jaxticket.transforms.aliases import rigl as rigl
from jaxticket.transforms.aliases import sparse_evolutionary as sparse_evolutionary
from jaxticket.transforms.aliases import static as static
from jaxticket.transforms.base import MaskTransform as MaskTransform
from jaxticket.transforms.base import Plan as Plan
from jaxticket.transforms.base import chain as chain
from jaxticket.transforms.constraints import freeze as freeze
from jaxticket.transforms.constraints import keep_params_sparse as keep_params_sparse
from jaxticket.transforms.evolve import prune as prune
from jaxticket.transforms.evolve import regrow as regrow
from jaxticket.transforms.sparsify import SparseState as SparseState
from jaxticket.transforms.sparsify import init as init
from jaxticket.transforms.sparsify import mask_of as mask_of
from jaxticket.transforms.sparsify import sparsify as sparsify
from jaxticket.transforms.start import start as start
from jaxticket.transforms.surgery import reset_moments as reset_moments
