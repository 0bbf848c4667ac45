"""Parameters that are computed from latent ones at every step: for methods that keep dense weights."""

from jaxticket.reparam.base import Latent as Latent
from jaxticket.reparam.base import Reparam as Reparam
from jaxticket.reparam.base import export as export
from jaxticket.reparam.base import groups as groups
from jaxticket.reparam.straight_through import sr_ste as sr_ste
from jaxticket.reparam.straight_through import straight_through as straight_through
from jaxticket.reparam.top_kast import top_kast as top_kast
