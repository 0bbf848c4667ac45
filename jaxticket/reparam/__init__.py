"""Parameters that are computed from latent ones at every step, for methods that keep dense weights."""

from jaxticket.reparam._additive import Correction, additive, low_rank_residual
from jaxticket.reparam._base import Latent, Reparam, export, groups
from jaxticket.reparam._bilevel import BilevelState, bip
from jaxticket.reparam._compander import Companding, weight_compander
from jaxticket.reparam._continuous import continuous_penalty, continuous_sparsification, next_round
from jaxticket.reparam._hard_concrete import expected_l0, expected_l2, hard_concrete
from jaxticket.reparam._initialise import kaiming_normal, signed_constant
from jaxticket.reparam._learned import soft_threshold, threshold_decay
from jaxticket.reparam._monarch import monarch
from jaxticket.reparam._recycle import recycle, rerandomise
from jaxticket.reparam._signed import sgdw, sign_mask, signed_supermask
from jaxticket.reparam._soft import pdp
from jaxticket.reparam._straight_through import sr_ste, straight_through
from jaxticket.reparam._supermask import biprop, edge_popup
from jaxticket.reparam._top_kast import top_kast

__all__ = [
    "BilevelState",
    "Companding",
    "Correction",
    "Latent",
    "Reparam",
    "additive",
    "bip",
    "biprop",
    "continuous_penalty",
    "continuous_sparsification",
    "edge_popup",
    "expected_l0",
    "expected_l2",
    "export",
    "groups",
    "hard_concrete",
    "kaiming_normal",
    "low_rank_residual",
    "monarch",
    "next_round",
    "pdp",
    "recycle",
    "rerandomise",
    "sgdw",
    "sign_mask",
    "signed_constant",
    "signed_supermask",
    "soft_threshold",
    "sr_ste",
    "straight_through",
    "threshold_decay",
    "top_kast",
    "weight_compander",
]
