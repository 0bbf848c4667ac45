"""The networks of ImageNet, and their split over a tensor axis."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import PartitionSpec as P

from jaxticket import sharding
from jaxticket.typing import Params, PyTree


class Network(NamedTuple):
    """A network, and the layout of its parameters on a mesh."""

    make: Callable[[int, int], Any]  # (classes, pixels) -> Model
    rules: Mapping[str, P]  # of the tensor axis
    minimum: int = 2**16  # entries of the smallest leaf that FSDP splits

    def shardings(self, params: Params, mesh: jax.sharding.Mesh) -> PyTree:
        """Return the shardings of parameters, or of their shapes, on a mesh of the axes data, fsdp and tensor."""
        tensor = sharding.tensor_parallel(params, mesh, self.rules)
        return sharding.fsdp(params, mesh, minimum=self.minimum, over=tensor)


def _resnet_50(classes: int, pixels: int) -> Any:
    del pixels  # any
    from jaxticket import models  # needs an extra, whose absence the command line reports

    return models.resnet_50(classes=classes)


def _vit_small(classes: int, pixels: int) -> Any:
    from jaxticket import models

    return models.vit_small(classes=classes, image_size=pixels)


# Of a bottleneck the first convolution makes a part of its channels on each device, and the second adds up over them.
_RESNET_RULES = {
    r"layer1/conv/kernel": P(None, None, None, "tensor"),
    r"layer1/norm/": P("tensor"),
    r"layer2/conv/kernel": P(None, None, "tensor"),
    r"output/kernel": P("tensor"),
}
# Heads and hidden units lie apart; what writes to the residual stream is added up (Shoeybi et al., 2019).
_VIT_RULES = {
    r"(query|key|value)/kernel": P(None, "tensor"),
    r"(query|key|value)/bias": P("tensor"),
    r"out/kernel": P("tensor"),
    r"mlp/hidden/kernel": P(None, "tensor"),
    r"mlp/hidden/bias": P("tensor"),
    r"mlp/output/kernel": P("tensor"),
}
NETWORKS = {"resnet_50": Network(_resnet_50, _RESNET_RULES), "vit_small": Network(_vit_small, _VIT_RULES)}
