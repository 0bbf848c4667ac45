"""Masks as values: their algebra, what they do to parameters, how they are measured and packed."""

from jaxticket.masks.algebra import complement as complement
from jaxticket.masks.algebra import difference as difference
from jaxticket.masks.algebra import empty_like as empty_like
from jaxticket.masks.algebra import full_like as full_like
from jaxticket.masks.algebra import intersection as intersection
from jaxticket.masks.algebra import union as union
from jaxticket.masks.apply import apply_mask as apply_mask
from jaxticket.masks.apply import gate as gate
from jaxticket.masks.measure import Row as Row
from jaxticket.masks.measure import Summary as Summary
from jaxticket.masks.measure import churn as churn
from jaxticket.masks.measure import density as density
from jaxticket.masks.measure import hamming as hamming
from jaxticket.masks.measure import iou as iou
from jaxticket.masks.measure import nnz as nnz
from jaxticket.masks.measure import summary as summary
from jaxticket.masks.pack import PackedMask as PackedMask
from jaxticket.masks.pack import pack as pack
from jaxticket.masks.pack import unpack as unpack
