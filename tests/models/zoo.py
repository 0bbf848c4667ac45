"""A small model of each family, and what one unit of it is made of."""

import functools
import math
import re
from typing import Any, NamedTuple

import numpy as np

from jaxticket import models
from jaxticket.models import Model

Coupled = tuple[tuple[str, int], ...]  # the (path, axis) of every array that a unit has an entry on


class Case(NamedTuple):
    """A model that compiles in a second, what it reads, and the groups of its units."""

    model: Model
    shape: tuple[int, ...]  # of the inputs
    groups: dict[str, Coupled]
    vocabulary: int = 0  # 0 for images

    def inputs(self) -> np.ndarray:
        """Images, normal; or tokens, each once before any comes twice."""
        if self.vocabulary:
            return (np.arange(math.prod(self.shape), dtype=np.int32) % self.vocabulary).reshape(self.shape)
        return np.float32(np.random.default_rng(7).normal(size=self.shape))


def leaf_of(tree: Any, path: str) -> Any:
    """The leaf at a path such as layer1/conv/kernel."""
    return functools.reduce(lambda branch, name: branch[name], path.split("/"), tree)


def shallow(model: Model, *, blocks: int) -> Model:
    """The model with the first blocks of each stage: it runs as many as its parameters hold."""

    def cut(tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        numbers = {name: re.fullmatch(r"block(\d+)", name) for name in tree}
        return {name: cut(tree[name]) for name, found in numbers.items() if not found or int(found[1]) <= blocks}

    return Model(lambda key: tuple(map(cut, model.init(key))), model.apply)


def _conv(name: str) -> Coupled:
    return ((f"{name}/conv/kernel", 3), *_norm(name))


def _norm(name: str) -> Coupled:
    return tuple((f"{name}/norm/{leaf}", 0) for leaf in ("scale", "bias", "mean", "var"))


def _reader(name: str) -> Coupled:
    return ((f"{name}/conv/kernel", 2),)


def _projections(names: tuple[str, ...], axis: int) -> Coupled:
    """Heads (axis 0) or channels of heads (1) of query, key or value."""
    paths = tuple((f"{_ATTENTION}/{name}/bias", axis) for name in names)
    return paths + tuple((f"{_ATTENTION}/{name}/kernel", axis + 1) for name in names)


_STREAM = tuple(f"stage3/{layer}" for layer in ("block1/shortcut", "block1/layer2"))
_SECOND = "stage2/block1/layer2"
_MLP = "blocks/block1/mlp"
_ATTENTION = "blocks/block1/attention"
_RESNET = shallow(models.resnet_20(width=4), blocks=1)
_BOTTLENECKS = shallow(models.resnet_50(width=4, classes=10), blocks=1)

CASES = {
    "conv_4": Case(
        models.conv_4(shape=(4, 4, 3)),
        (6, 4, 4, 3),
        {
            "channels": (("conv3/kernel", 3), ("conv3/bias", 0), ("conv4/kernel", 2)),
            "flattened": (("conv4/kernel", 3), ("conv4/bias", 0), ("hidden1/kernel", 0)),
        },
    ),
    "vgg_16_bn": Case(
        models.vgg_16_bn(width=4),
        (6, 16, 16, 3),
        {"channels": _conv("layer3") + _reader("layer4"), "last": (*_conv("layer13"), ("output/kernel", 0))},
    ),
    "resnet_20": Case(
        _RESNET,
        (6, 8, 8, 3),
        {
            "inner": _conv("stage2/block1/layer1") + _reader("stage2/block1/layer2"),
            "stream": (*sum(map(_conv, _STREAM), ()), ("output/kernel", 0)),
        },
    ),
    "residual_mlp": Case(
        models.residual_mlp(blocks=1, width=16, features=64),
        (6, 8, 8, 1),
        {
            "hidden": (
                ("blocks/block1/hidden/kernel", 1),
                ("blocks/block1/hidden/bias", 0),
                ("blocks/block1/output/kernel", 0),
            )
        },
    ),
    "supernet": Case(
        models.supernet(blocks=1, width=4, hidden=3, sizes=(1, 3), patch=2, shape=(4, 4, 1)),
        (6, 4, 4, 1),
        {
            "branch": (
                *_conv("blocks/block1/kernel3/expand"),
                *_conv("blocks/block1/kernel3/depthwise"),
                ("blocks/block1/kernel3/project/kernel", 2),
            )
        },
    ),
    "resnet_50": Case(
        _BOTTLENECKS,
        (6, 32, 32, 3),
        {
            "first": _conv("stage2/block1/layer1") + _reader("stage2/block1/layer2"),
            "second": _conv("stage2/block1/layer2") + _reader("stage2/block1/layer3"),
        },
    ),
    "wide_resnet": Case(
        models.wide_resnet(depth=10, width=1),
        (6, 8, 8, 3),
        {"inner": (("stage2/block1/layer1/conv/kernel", 3), *_norm(_SECOND), *_reader(_SECOND))},
    ),
    "vit_tiny": Case(
        shallow(models.vit_tiny(classes=10, image_size=8, patch=4), blocks=1),
        (6, 8, 8, 3),
        {"hidden": ((f"{_MLP}/hidden/kernel", 1), (f"{_MLP}/hidden/bias", 0), (f"{_MLP}/output/kernel", 0))},
    ),
    "gpt": Case(
        models.gpt(vocabulary=40, context=8, layers=1, heads=3, width=24),
        (3, 6),
        {
            "heads": (*_projections(("query", "key", "value"), 0), (f"{_ATTENTION}/out/kernel", 0)),
            "queries": _projections(("query", "key"), 1),
            "values": (*_projections(("value",), 1), (f"{_ATTENTION}/out/kernel", 1)),
        },
        vocabulary=40,
    ),
    "decoder": Case(
        models.decoder(vocabulary=40, layers=1, heads=4, key_value_heads=2, width=24, hidden=20, query_norm=True),
        (3, 6),
        {"hidden": ((f"{_MLP}/gate/kernel", 1), (f"{_MLP}/hidden/kernel", 1), (f"{_MLP}/output/kernel", 0))},
        vocabulary=40,
    ),
    "lstm": Case(
        models.lstm(vocabulary=40, width=24, layers=1, dropout=0),
        (3, 6),
        {
            "units": (
                ("layer1/input/kernel", 2),
                ("layer1/recurrent/kernel", 2),
                ("layer1/recurrent/kernel", 0),
                ("layer1/recurrent/bias", 1),
                ("output/kernel", 0),
            )
        },
        vocabulary=40,
    ),
    "efficientnet_lite0": Case(
        shallow(models.efficientnet_lite0(classes=10, width=4), blocks=1),
        (6, 16, 16, 3),
        {
            "expansion": _conv("stage2/block1/expand")
            + _conv("stage2/block1/depthwise")
            + _reader("stage2/block1/project"),
            "stream": _conv("stage2/block1/project") + _reader("stage3/block1/expand"),
        },
    ),
}
