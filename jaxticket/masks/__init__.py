"""Masks as values: their algebra, their application to parameters, their measures, and packing."""

from jaxticket.masks._algebra import complement, difference, empty_like, full_like, intersection, union
from jaxticket.masks._apply import apply_mask, gate
from jaxticket.masks._measure import churn, density, hamming, iou, nnz, outside
from jaxticket.masks._nm import is_nm
from jaxticket.masks._pack import PackedMask, pack, unpack
from jaxticket.masks._rescale import rescale_init
from jaxticket.masks._summary import Row, Summary, summary

__all__ = [
    "PackedMask",
    "Row",
    "Summary",
    "apply_mask",
    "churn",
    "complement",
    "density",
    "difference",
    "empty_like",
    "full_like",
    "gate",
    "hamming",
    "intersection",
    "iou",
    "is_nm",
    "nnz",
    "outside",
    "pack",
    "rescale_init",
    "summary",
    "union",
    "unpack",
]
