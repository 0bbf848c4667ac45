"""Masks and sparse optimizer states on a mesh: laid out like their parameters, refreshed without gathering them."""

from jaxticket.sharding.collectives import assert_no_gather as assert_no_gather
from jaxticket.sharding.collectives import collectives as collectives
from jaxticket.sharding.reduction import SHARDS as SHARDS
from jaxticket.sharding.reduction import GradientFn as GradientFn
from jaxticket.sharding.reduction import Reduction as Reduction
from jaxticket.sharding.reduction import value_and_grad as value_and_grad
from jaxticket.sharding.specs import batch as batch
from jaxticket.sharding.specs import fsdp as fsdp
from jaxticket.sharding.specs import tensor_parallel as tensor_parallel
from jaxticket.sharding.state import state_shardings as state_shardings
