"""Kernels of sparse layers that store only what their masks keep, and a choice among them by measurement."""

from jaxticket._timing import time_rounds
from jaxticket.execution._bcsr import BCSR, pack_bcsr
from jaxticket.execution._blocks import Blocks, pack_blocks
from jaxticket.execution._condensed import Condensed, pack_condensed
from jaxticket.execution._dense import Dense, pack_dense
from jaxticket.execution._fastest import fastest, pack_all
from jaxticket.execution._measure import Choice, measure
from jaxticket.execution._monarch import Monarch, draw_monarch, pack_monarch
from jaxticket.execution._nm import NM, pack_nm
from jaxticket.execution._packed import Packed, matmul

__all__ = [
    "BCSR",
    "NM",
    "Blocks",
    "Choice",
    "Condensed",
    "Dense",
    "Monarch",
    "Packed",
    "draw_monarch",
    "fastest",
    "matmul",
    "measure",
    "pack_all",
    "pack_bcsr",
    "pack_blocks",
    "pack_condensed",
    "pack_dense",
    "pack_monarch",
    "pack_nm",
    "time_rounds",
]
