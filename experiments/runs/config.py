"""The settings of an experiment: of its run, its training and its search. Every field is a flag."""

import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
import sys
import typing
from typing import Any, ClassVar, Literal

from experiments.runs.processes import Pod
from jaxticket.errors import InputError
from jaxticket.training.nonfinite import OnNan


@dataclasses.dataclass(frozen=True)
class Run(Pod):
    """The place of a run, and the values that identify it."""

    EXPERIMENT: ClassVar[str]
    # What does not change any number of the run: asking for more of these extends it.
    NOT_HASHED: ClassVar[frozenset[str]] = frozenset(
        {"data_dir", "out", "dry_run", "evidence", *(field.name for field in dataclasses.fields(Pod))}
    )

    seed: int = 0
    """The seed of all random numbers."""
    out: pathlib.Path = pathlib.Path("runs")
    """The folder in which the run gets its own, named by a hash of its settings."""
    evidence: pathlib.Path | None = None
    """Also store the claims that the run tests in this folder, such as docs/evidence, for `make report`."""
    dry_run: bool = False
    """Print the plan and stop."""

    def __post_init__(self) -> None:
        check_types(self)
        super().__post_init__()
        require(0 <= self.seed < 2**32, self, "seed", "at least 0 and below 2^32")

    def identity(self) -> dict[str, Any]:
        """The values that define the numbers of the run."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in self.NOT_HASHED}

    def hash(self) -> str:
        """Hash the values that are not the defaults, so that an option added later renames no run."""
        defaults = type(self)().identity()
        changed = {name: value for name, value in self.identity().items() if value != defaults.get(name)}
        return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:10]

    def flags(self) -> list[str]:
        """The flags that make this configuration of the defaults."""
        return changed_flags(self)

    def command(self) -> list[str]:
        """The command that a user types to run this configuration."""
        return ["python", f"experiments/{self.EXPERIMENT}.py", *self.flags()]

    def folder(self) -> pathlib.Path:
        """The folder of the run."""
        return self.out / f"{self.EXPERIMENT}-{self.hash()}"


@dataclasses.dataclass(frozen=True)
class Training(Run):
    """The network, the data and the training: the flags of experiments on small data."""

    NOT_HASHED = Run.NOT_HASHED | {"placement", "checkpoint_seconds", "on_nan", "profile"}

    model: Literal["lenet_300_100", "conv_4", "resnet_20", "vgg_16_bn"] = "lenet_300_100"
    """The network, from jaxticket.models."""
    data: Literal["mnist5k", "fashion_mnist", "cifar10"] = "mnist5k"
    """The data set, from jaxticket.data."""
    data_dir: pathlib.Path | None = None
    """The folder of the data set, unless it is where jaxticket.data looks; mnist5k needs none."""
    limit: int = 0
    """The number of examples of each split to use, the same share of each class; 0 uses all."""
    augment: Literal["none", "crop-and-flip"] = "none"
    """The random changes of training images at each step."""
    placement: Literal["auto", "vmap", "map", "sequence", "data"] = "auto"
    """The placement of replicates, chosen by speed with auto.
    vmap and map: in one program, batched or in turn on each device. sequence: one after the other.
    data: all devices share the batches of each replicate, as several processes must."""
    epochs: int = 16
    """Epochs of a training, from its start."""
    batch_size: int = 60
    """Examples in a step."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or stochastic gradient descent with momentum."""
    momentum: float = 0.9
    """The momentum of --optimizer sgd."""
    weight_decay: float = 0.0
    """The L2 penalty: added to the gradient, times each parameter."""
    learning_rate: float = 1.2e-3
    """The peak of the learning rate."""
    decay: Literal["constant", "cosine", "steps"] = "constant"
    """The learning rate after the warm-up: constant, a cosine to 0, or steps at the milestones."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """With --decay steps: the parts of the training after which the learning rate falls to a tenth."""
    warmup: int = 0
    """Steps in which the learning rate rises from 0."""
    validation: int = 500
    """Validation examples, taken from the training examples."""
    test: int = 1000
    """Test examples of --data mnist5k; nothing is chosen by them. Other data sets have their own."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints inside a training."""
    reduction: Literal["any", "fixed"] = "any"
    """The sum of gradients over the devices of --placement data; fixed has the same bits on 1 to 8 devices."""
    on_nan: OnNan = "stop"
    """At a loss or weights that are not finite: stop, skip and count such steps, or record the result."""
    profile: bool = False
    """Write a trace of some steps, for TensorBoard or Perfetto, into the folder profile of the run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "batch_size"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        for name in ("warmup", "checkpoint_seconds", "limit", "weight_decay"):
            require(0 <= getattr(self, name) < math.inf, self, name, "at least 0")
        require(0 <= self.momentum < 1, self, "momentum", "at least 0 and below 1")
        rising = [0.0, *self.milestones, 1.0]
        require(all(a < b for a, b in itertools.pairwise(rising)), self, "milestones", "rising between 0 and 1")
        require(0 < self.learning_rate < math.inf, self, "learning_rate", "above 0")
        for name in ("validation", "test"):
            require(getattr(self, name) >= 1, self, name, "at least 1, to have something to report")

    @property
    def setting(self) -> str:
        """The network and the data, in words."""
        return f"{self.model} on {f'{self.limit:,} examples of ' if self.limit else ''}{self.data}"

    def identity(self) -> dict[str, Any]:
        """The values that define the numbers of the run."""
        skips = {"on_nan": self.on_nan} if self.on_nan == "skip" else {}  # another program; to stop changes no number
        return super().identity() | skips


@dataclasses.dataclass(frozen=True)
class OwnProblem(Training):
    """The flag by which a user's own network and data are trained."""

    problem: str = ""
    """Your own network and data in place of --model and --data.
    The value is module:function or path/to/file.py:function; the function returns a jaxticket.data.Dataset
    and a network with init and apply, as jaxticket.models.Model has."""

    @property
    def setting(self) -> str:
        """The network and the data, in words."""
        return self.problem or super().setting


@dataclasses.dataclass(frozen=True)
class Rewinding(Training):
    """The point to which searches rewind."""

    rewind_step: int = 0
    """The step to which weights (or the learning rate) are rewound; 0 is before training."""
    rewind_fraction: float = 0.0
    """The same as a part of a training, rounded up to a step; one of the two flags must be 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rewind_step >= 0, self, "rewind_step", "at least 0")
        require(0 <= self.rewind_fraction < 1, self, "rewind_fraction", "at least 0 and below 1")
        require(self.rewind_step == 0 or self.rewind_fraction == 0, self, "rewind_step", "0 with --rewind-fraction")

    def rewound_to(self, steps: int) -> int:
        """Return the rewind step of a training of so many steps."""
        return self.rewind_step or math.ceil(self.rewind_fraction * steps)


def identity_in(folder: pathlib.Path, config: Any) -> dict[str, Any]:
    """Return the values that identify the run in a folder.

    Options that were added later are left out at their defaults. The hash leaves them out too, so that an older run
    resumes.
    """
    identity = {"experiment": config.EXPERIMENT, **config.identity()}
    try:
        known = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError, RecursionError):
        known = None
    if not isinstance(known, dict):  # nothing, or what `folder.claim` refuses
        return identity
    defaults = type(config)().identity()
    return {name: value for name, value in identity.items() if name in known or value != defaults.get(name)}


def changed_flags(config: Any) -> list[str]:
    """Return the flags of a dataclass that are not the defaults, except those that change no run."""
    flags = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default and field.name not in ("dry_run", "evidence"):
            values = value if isinstance(value, tuple) else (value,)
            flags += [f"--{field.name.replace('_', '-')}", *map(str, values)]
    return flags


def check_types(config: Any) -> None:
    """Raise InputError, naming the flag, for a value of another type than its field's (a number may be whole)."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        if not _is_a(value, hint):
            kind = getattr(hint, "__name__", str(hint)).removeprefix("typing.")
            raise InputError(f"--{field.name.replace('_', '-')} is {value!r:.200}, but must be {kind}")


def _is_a(value: Any, hint: Any) -> bool:
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_a(part, parts[0]) for part in value)
    if parts:  # a union
        return any(_is_a(value, part) for part in parts)
    if hint is float:
        return type(value) in (int, float) and not abs(value) > sys.float_info.max
    if hint is int:
        return type(value) is int
    return isinstance(value, hint)


def require(condition: bool, config: Run, name: str, what: str) -> None:
    """Raise InputError, naming the flag, unless the condition holds."""
    if not condition:
        raise InputError(f"--{name.replace('_', '-')} is {getattr(config, name)}, but must be {what}")
