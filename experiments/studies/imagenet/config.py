"""The configuration of a training on ImageNet. Every field is a flag."""

import dataclasses
import math
import pathlib
import re
from typing import Literal

from experiments.runs.config import Run, require
from experiments.studies.imagenet.networks import NETWORKS
from jaxticket import schedules

AXES = ("data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class Config(Run):
    """Train a network sparsely on ImageNet, or search for winning tickets there."""

    EXPERIMENT = "imagenet"
    NOT_HASHED = Run.NOT_HASHED | {"data_dir", "mesh", "checkpoint_steps", "lower"}

    model: str = "resnet_50"
    """The network: resnet_50 or vit_small."""
    method: Literal[
        "imp", "gradual", "global_gradual", "rigl", "granet", "sparse_evolutionary", "ac_dc", "random_erk"
    ] = "rigl"
    """imp, iterative magnitude pruning with late rewinding, or the name of a method in jaxticket.registry."""
    density: float = 0.2
    """The fraction of the weights to keep; with imp, that of the last level."""
    rate: float = 0.2
    """With imp: the fraction of the surviving weights that each level prunes."""
    rewind_epochs: float = 6.0
    """With imp: the epochs after which the weights are kept, from which each level starts."""
    data_dir: pathlib.Path | None = None
    """The folder in which tfds keeps imagenet2012 (by default the usual one),
    or the folder of train/CLASS/*.JPEG and val/CLASS."""
    image_size: int = 224
    """Pixels along a side."""
    mesh: str = ""
    """Sizes of the axes data, fsdp and tensor, such as data=8,fsdp=2,tensor=1; data takes the devices that are left."""
    epochs: int = 90
    """Epochs of a training, from its start."""
    batch_size: int = 1024
    """Examples in a step, over all devices."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Stochastic gradient descent with momentum 0.9, or AdamW."""
    learning_rate: float = 0.4
    """The peak of the learning rate, from which a cosine falls to 0."""
    warmup_epochs: float = 5.0
    """Epochs in which the learning rate rises from 0."""
    weight_decay: float = 1e-4
    """The decay of kernels: with sgd an L2 penalty, with adamw decoupled."""
    label_smoothing: float = 0.1
    """The probability that is spread over all classes."""
    ema: float = 0.0
    """The decay a step of an average of the weights, which is then evaluated; 0 for none."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """The type of activations and gradients; weights, statistics and optimizer are float32."""
    checkpoint_steps: int = 1000
    """Steps between checkpoints inside a training."""
    lower: int = 0
    """Compile a step for so many imagined devices, print its cost for each of them, and stop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.model in NETWORKS, self, "model", f"one of {', '.join(NETWORKS)}")
        for name in ("image_size", "epochs", "batch_size", "checkpoint_steps"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        for name in ("density", "learning_rate"):
            require(0 < getattr(self, name) < math.inf, self, name, "above 0")
        require(self.density <= 1, self, "density", "at most 1")
        require(0 < self.rate < 1, self, "rate", "between 0 and 1")
        for name in ("warmup_epochs", *["rewind_epochs"] * (self.method == "imp")):
            require(0 <= getattr(self, name) < self.epochs, self, name, f"at least 0 and below --epochs {self.epochs}")
        for name in ("weight_decay", "lower"):
            require(0 <= getattr(self, name) < math.inf, self, name, "at least 0")
        for name in ("label_smoothing", "ema"):
            require(0 <= getattr(self, name) < 1, self, name, "at least 0 and below 1")
        require(self.evidence is None, self, "evidence", "left out: no claims are tested here")
        self.axes(math.prod(self._sizes().values()))

    def axes(self, devices: int) -> dict[str, int]:
        """Return the size of each axis of the mesh on so many devices. Raises InputError for sizes that do not fit."""
        sizes = self._sizes()
        given = math.prod(sizes.values())
        if "data" not in sizes:
            require(devices % given == 0, self, "mesh", f"of sizes that divide the {devices} devices")
            sizes["data"] = devices // given
        require(math.prod(sizes.values()) == devices, self, "mesh", f"of sizes that make up {devices} devices")
        shards = sizes["data"] * sizes.get("fsdp", 1)
        require(self.batch_size % shards == 0, self, "batch_size", f"a multiple of the {shards} parts of the mesh")
        return {axis: sizes.get(axis, 1) for axis in AXES}

    def densities(self) -> list[float]:
        """Return the densities of imp's levels: falling by --rate to the last above --density, and then to it."""
        if self.density == 1:
            return [1.0]
        levels = math.ceil(math.log(self.density) / math.log1p(-self.rate) - 1e-9)
        return [*map(float, schedules.levels(levels, rate=self.rate)), self.density]

    def _sizes(self) -> dict[str, int]:
        pairs = re.findall(r"(\w+)=(\d+)", self.mesh)
        sizes = {axis: int(size) for axis, size in pairs}
        right = ",".join(f"{axis}={size}" for axis, size in pairs) == self.mesh and len(sizes) == len(pairs)
        require(right and {*sizes} <= {*AXES} and 0 not in sizes.values(), self, "mesh", "like data=8,fsdp=2,tensor=1")
        return sizes
