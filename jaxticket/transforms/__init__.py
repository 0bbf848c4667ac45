"""Mask transforms, by which a mask starts and evolves, and the optax transforms that train under a mask."""

from jaxticket.transforms._aliases import ac_dc, gradual, iss_p, static
from jaxticket.transforms._alternate import alternate
from jaxticket.transforms._averaged import average_gradients
from jaxticket.transforms._base import MaskTransform, Plan, chain
from jaxticket.transforms._constraints import freeze, keep_params_sparse
from jaxticket.transforms._describe import describe
from jaxticket.transforms._dynamic import itop, rigl, sparse_evolutionary
from jaxticket.transforms._evolve import prune, redistribute, regrow
from jaxticket.transforms._exploring import Explored, explored_of, track_explored
from jaxticket.transforms._granet import granet, granet_uniform
from jaxticket.transforms._mest import mest
from jaxticket.transforms._regularise import add_l1, project_l0, prox_l1, scales_to_keep, smooth_sign
from jaxticket.transforms._remake import remake, soft_prune
from jaxticket.transforms._resume import resume_schedules
from jaxticket.transforms._shrink import shrink
from jaxticket.transforms._snfs import snfs
from jaxticket.transforms._sparsify import init, mask_of, mask_params, sparsify
from jaxticket.transforms._start import start
from jaxticket.transforms._state import SparseState
from jaxticket.transforms._surgery import reset_moments

__all__ = [
    "Explored",
    "MaskTransform",
    "Plan",
    "SparseState",
    "ac_dc",
    "add_l1",
    "alternate",
    "average_gradients",
    "chain",
    "describe",
    "explored_of",
    "freeze",
    "gradual",
    "granet",
    "granet_uniform",
    "init",
    "iss_p",
    "itop",
    "keep_params_sparse",
    "mask_of",
    "mask_params",
    "mest",
    "project_l0",
    "prox_l1",
    "prune",
    "redistribute",
    "regrow",
    "remake",
    "reset_moments",
    "resume_schedules",
    "rigl",
    "scales_to_keep",
    "shrink",
    "smooth_sign",
    "snfs",
    "soft_prune",
    "sparse_evolutionary",
    "sparsify",
    "start",
    "static",
    "track_explored",
]
