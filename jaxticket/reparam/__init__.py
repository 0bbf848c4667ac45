"""Parameters that are computed from latent ones at every step: for methods that keep dense weights."""

from jaxticket.reparam.base import Latent as Latent
from jaxticket.reparam.base import Reparam as Reparam
from jaxticket.reparam.base import export as export
from jaxticket.reparam.base import groups as groups
from jaxticket.reparam.initialise import kaiming_normal as kaiming_normal
from jaxticket.reparam.initialise import signed_constant as signed_constant
from jaxticket.reparam.recycle import recycle as recycle
from jaxticket.reparam.recycle import rerandomise as rerandomise
from jaxticket.reparam.signed import sign_mask as sign_mask
from jaxticket.reparam.signed import signed_supermask as signed_supermask
from jaxticket.reparam.straight_through import sr_ste as sr_ste
from jaxticket.reparam.straight_through import straight_through as straight_through
from jaxticket.reparam.supermask import biprop as biprop
from jaxticket.reparam.supermask import edge_popup as edge_popup
from jaxticket.reparam.top_kast import top_kast as top_kast
