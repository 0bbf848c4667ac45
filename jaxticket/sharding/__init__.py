"""Masks and sparse optimizer states on a mesh: laid out like their parameters, refreshed without gathering them."""

from jaxticket.sharding._collectives import assert_no_gather, collectives
from jaxticket.sharding._reduction import SHARDS, GradientFn, Reduction, value_and_grad
from jaxticket.sharding._specs import batch, fsdp, tensor_parallel
from jaxticket.sharding._state import state_shardings, state_specs

__all__ = [
    "SHARDS",
    "GradientFn",
    "Reduction",
    "assert_no_gather",
    "batch",
    "collectives",
    "fsdp",
    "state_shardings",
    "state_specs",
    "tensor_parallel",
    "value_and_grad",
]
